"""Answers by vLLM: a second copy of the model, which gets the weights of the one that transformers holds.

transformers' model stays in memory: hybrids are made in it, and metrics and priors read its distributions and hidden
states, which vLLM does not give. Before vLLM answers, it gets every tensor that has changed, under its name in the
checkpoint. vLLM packs several tensors into one parameter, such as gate_proj and up_proj, and a parameter that gets only
some of its tensors holds garbage. So the whole attention or MLP around a changed tensor is sent: no parameter reaches
beyond it.

The first answer after each change is compared with transformers, which reads it once: if vLLM had other weights, it
would give its tokens other probabilities. That is an error.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

import torch

from dapa_exp.base.errors import DapaError
from dapa_exp.base.memory import free_memory
from dapa_exp.base.packages import need_vllm
from dapa_exp.config.schema import Runtime
from dapa_exp.engine.plain import Completion, PlainEngine, Request, prompt_tokens
from dapa_exp.models.architecture import architecture
from dapa_exp.models.load import LoadedModel
from dapa_exp.models.tensors import TensorReader
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import EngineAgreement

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, so that tensors are not copied on their way
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other runs of a sweep use the same cores
    "VLLM_LOGGING_LEVEL": "ERROR",  # it warns of every parameter that a transplant leaves as it is
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # tensors for its other processes, which are of our own making
}
BYTES_A_GB = 10**9
SENT_AT_ONCE = 2 * BYTES_A_GB
"""About so many bytes are sent in one call: the processes of a tensor-parallel model get them in one message."""
LIMITS = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""The most by which vLLM's and transformers' log-probability of a token may differ, in nats, on average over an answer.

On miniatures they differ by 1e-7 in float32 and 2e-3 in bfloat16.
"""
COMPARED = 8
"""How many answers `agreement` compares."""
_RUNNING: list[list[LLM]] = []
"""The vLLM that was started last in this process."""


class VllmEngine(PlainEngine):
    """Answers by vLLM, with the weights that are in transformers' model at the time.

    vLLM starts at the first request. It gets only the rows that are wanted.
    """

    def __init__(self, loaded: LoadedModel, runtime: Runtime) -> None:
        super().__init__(loaded, runtime.batch_size)
        self._runtime = runtime
        self._weights = Weights(loaded)
        self._started: list[LLM] = []
        """vLLM, once it has started; else empty."""
        finalize(self, _stop, self._started)

    def batches(self, count: int) -> list[range]:
        """All prompts at once: vLLM begins with the next prompt as soon as an answer has ended."""
        return [range(count)] if count else []

    def answers(self, request: Request) -> dict[int, Completion]:
        """The answers to the wanted prompts, by their places in the request."""
        asked = prompt_tokens(self.loaded, [request.prompts[place] for place in request.wanted])
        said = self._ask(asked, request.max_new_tokens)
        self._count(sum(map(len, asked)), decoded=sum(len(answer.token_ids) - 1 for answer in said))
        return {
            place: self._completion(list(answer.token_ids)) for place, answer in zip(request.wanted, said, strict=True)
        }

    def agreement(self, prompts: Sequence[Prompt], max_new_tokens: int) -> EngineAgreement:
        """How far vLLM's answers to the first prompts are from transformers', with the weights that it has now."""
        asked = prompt_tokens(self.loaded, prompts[:COMPARED])
        said = self._ask(asked, max_new_tokens)
        compared = [self._compare(*of) for of in zip(asked, said, strict=True)]
        differences = torch.cat([difference for difference, _ in compared])
        return EngineAgreement(
            answers=len(asked),
            tokens=len(differences),
            likeliest=sum(likeliest for _, likeliest in compared),
            mean_difference=float(differences.mean()),
            largest_difference=float(differences.max()),
        )

    def _ask(self, asked: Sequence[list[int]], max_new_tokens: int) -> list[CompletionOutput]:
        """vLLM's greedy answers. The first one is compared with transformers if weights have changed since the last."""
        new = not self._started
        if new:
            self._start()
        (llm,) = self._started
        for tensors in self._weights.changed():
            new = True
            try:
                llm.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
            except Exception as error:  # it raises whatever comes up
                raise DapaError(f"vLLM did not take the weights over: {type(error).__name__}: {error}") from error
        said = self._generate_by(llm, asked, max_new_tokens)
        if new and said:
            self._refuse_other_weights(asked[0], said[0])
        return said

    def _generate_by(self, llm: LLM, asked: Sequence[list[int]], max_new_tokens: int) -> list[CompletionOutput]:
        from vllm import SamplingParams

        greedy = SamplingParams(
            temperature=0.0,
            max_tokens=max_new_tokens,
            ignore_eos=True,  # vLLM ends answers by the checkpoint's end tokens; `stop_token_ids` are ours
            stop_token_ids=sorted(self.ends),
            detokenize=False,
            logprobs=0,  # of the generated tokens
        )
        try:
            outputs = llm.generate([{"prompt_token_ids": ids} for ids in asked], greedy, use_tqdm=False)
        except ValueError as error:
            raise DapaError(f"vLLM refuses a prompt; runtime.cache_memory may be too small for it: {error}") from error
        except RuntimeError as error:
            raise DapaError(f"vLLM cannot answer with this model: {error}") from error
        return [output.outputs[0] for output in outputs]

    def _refuse_other_weights(self, asked: list[int], said: CompletionOutput) -> None:
        """Raise DapaError if vLLM did not answer with the weights of transformers' model, or its numbers are NaN."""
        differences, _ = self._compare(asked, said)
        limit = LIMITS[self._runtime.dtype]
        if not (mean := float(differences.mean())) <= limit:
            raise DapaError(
                f"vLLM's log-probabilities differ by {mean:.2g} nats from transformers', of the same weights; at most"
                f" {limit:g} come from rounding in {self._runtime.dtype}. Either vLLM did not take the weights over, or"
                " it computes this model otherwise; runtime.engine=fast does without it"
            )

    @torch.inference_mode()
    def _compare(self, asked: list[int], said: CompletionOutput) -> tuple[torch.Tensor, int]:
        """How vLLM's and transformers' log-probabilities of an answer differ, and how many tokens are the likeliest.

        The differences are in nats, shape (tokens,). The likeliest is by transformers.
        """
        model: Any = self.loaded.model
        tokens = torch.tensor(said.token_ids)
        ids = torch.tensor([[*asked, *said.token_ids]], device=model.device)
        logits = model(ids, logits_to_keep=len(tokens) + 1).logits[0, :-1].float().cpu()
        ours = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        assert said.logprobs is not None
        theirs = torch.tensor([of[token].logprob for of, token in zip(said.logprobs, said.token_ids, strict=True)])
        return (ours - theirs).abs(), int((logits.argmax(-1) == tokens).sum())

    def _start(self) -> None:
        """Start vLLM with the checkpoint's weights. Another engine's vLLM is stopped: they share global state."""
        runtime = self._runtime
        import_vllm()
        for started in _RUNNING:
            _stop(started)
        self._refuse_to_overfill()
        if runtime.tensor_parallel > 1:
            # vLLM starts processes, which Python forbids to a run's process. They end with it all the same.
            multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        llm = self._load()
        self._started.append(llm)
        _RUNNING[:] = [self._started]
        self._weights.start()
        if llm.llm_engine.model_config.using_transformers_backend():
            _stop(self._started)
            raise DapaError(
                f"vLLM has no code of its own for {self.loaded.model.config.model_type}: it runs transformers', and"
                " changes it for this whole process; runtime.engine=fast does without vLLM"
            )

    def _load(self) -> LLM:
        """vLLM with the checkpoint's weights. Raises DapaError if it cannot load them."""
        from vllm import LLM

        runtime = self._runtime
        try:
            return LLM(
                model=str(self._weights.folder),
                dtype=runtime.dtype,
                tensor_parallel_size=runtime.tensor_parallel,
                max_num_seqs=self.batch_size,
                kv_cache_memory_bytes=int(runtime.cache_memory * BYTES_A_GB),
                gpu_memory_utilization=0.01,  # a share that must be free; `_refuse_to_overfill` knows better
                max_model_len=-1,  # what the cache holds
                enable_prefix_caching=False,  # it would outlive a change of weights
                enforce_eager=True,  # CUDA graphs have not been tried with weights that change
                skip_tokenizer_init=True,
                generation_config="vllm",  # nothing of the checkpoint's
                load_format="safetensors",
                use_tqdm_on_load=False,
                seed=0,
            )
        except Exception as error:  # it raises whatever comes up
            raise DapaError(f"vLLM cannot load {self._weights.folder}: {type(error).__name__}: {error}") from error

    def _refuse_to_overfill(self) -> None:
        """Raise a DapaError where vLLM does not fit into memory beside transformers' model."""
        runtime = self._runtime
        needed = self._weights.bytes // runtime.tensor_parallel + int(runtime.cache_memory * BYTES_A_GB)
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            needed, free = needed * runtime.tensor_parallel, free_memory()
        else:
            free = min(torch.cuda.mem_get_info(device)[0] for device in range(runtime.tensor_parallel))
        if needed > free:
            raise DapaError(
                f"runtime.engine=vllm: weights and cache take {needed / BYTES_A_GB:.1f} GB a device, and"
                f" {free / BYTES_A_GB:.1f} GB are free beside transformers' model; a smaller runtime.cache_memory or"
                " runtime.dtype takes less, runtime.device=cpu leaves a GPU to vLLM, runtime.tensor_parallel shares it"
            )


class Weights:
    """The tensors of transformers' model by their names in the checkpoint, and which of them vLLM has not got yet."""

    def __init__(self, loaded: LoadedModel) -> None:
        """The model must be as it is in the checkpoint."""
        model, self.folder = loaded.model, Path(str(loaded.model.name_or_path))
        row = architecture(model.config.model_type)
        self._block = re.compile(re.escape(row.layer).replace(r"\{layer\}", r"\d+") + r"[^.]+\.")
        parameters = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
        places = {name: row.parameter_of(name) for name in TensorReader(self.folder)}
        self._tensors = {
            name: place.of(parameters[place.parameter])
            for name, place in places.items()
            if place.parameter in parameters
        }
        """Views of the parameters. Torch counts the changes of a parameter, which all its views share."""
        self._stored = self._sent = self._versions()
        self.bytes = sum(tensor.nbytes for tensor in self._tensors.values())

    def start(self) -> None:
        """Note that vLLM has the checkpoint's weights."""
        self._sent = self._stored

    def changed(self) -> Iterator[list[tuple[str, torch.Tensor]]]:
        """The tensors to send, about SENT_AT_ONCE bytes at a time: those of each block that has changed."""
        now = self._versions()
        blocks = {self._block_of(name) for name, version in now.items() if version != self._sent[name]}
        sending: list[tuple[str, torch.Tensor]] = []
        for block in sorted(blocks):
            if sum(tensor.nbytes for _, tensor in sending) >= SENT_AT_ONCE:
                yield sending
                sending = []
            sending += [(name, tensor) for name, tensor in self._tensors.items() if self._block_of(name) == block]
        if sending:
            yield sending
        self._sent = now

    def _versions(self) -> dict[str, int]:
        return {name: tensor._version for name, tensor in self._tensors.items()}

    def _block_of(self, name: str) -> str:
        """The attention, MLP or norm of a layer that holds a tensor; the tensor itself outside of layers."""
        found = self._block.match(name)
        return found[0] if found else name


def _stop(started: list[LLM]) -> None:
    """Free vLLM's memory, and end its processes."""
    while started:
        started.pop().llm_engine.engine_core.shutdown()
    gc.collect()


def head_sizes() -> list[int]:
    """The sizes of attention heads that vLLM takes on this machine. Empty on a GPU: there it depends on the kernel."""
    import_vllm()
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return []
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    return list(CPUAttentionBackend.get_supported_head_sizes())


def import_vllm() -> None:
    """Import vLLM with our settings. Raises DapaError where it is not installed."""
    need_vllm()
    os.environ.update(ENVIRONMENT)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # It would compile the counting of log-probabilities: half a minute at the first request.
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
        import torch._dynamo

        torch._dynamo.config.disable = True
    # In a thread: vLLM keeps a traceback of its import, and with it all frames that had called it, and their models.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(import_module, "vllm.entrypoints.llm").result()
