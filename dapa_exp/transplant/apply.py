"""The transplant stage of a run: plan, apply, verify. Plan and verification each write a file to the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from dapa_exp.base.files import write_atomically
from dapa_exp.models.pair import Pair
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import TransplantRecord
from dapa_exp.transplant.hybrid import Hybrid
from dapa_exp.transplant.make_method import student_share
from dapa_exp.transplant.plan import plan_transplant


def transplant(run: RunFolder, hybrid: Hybrid, pair: Pair, chosen: Sequence[str]) -> TransplantRecord:
    """Transplant the chosen units into the student in memory, and verify every tensor of the result.

    Raises DapaError if a tensor in memory differs, in any bit, from the tensor computed from the checkpoints.
    """
    plan = plan_transplant(chosen, pair.units, pair.teacher, pair.student)
    write_atomically(run.files.plan, json.dumps(plan.as_json(), indent=1))
    hybrid.set_units(chosen)
    proof = hybrid.verify()
    write_atomically(run.files.proof, json.dumps(proof, indent=1))
    written, (largest, largest_student) = hybrid.written(), hybrid.largest()
    listing = json.dumps(proof["transplanted"], sort_keys=True)
    return TransplantRecord(
        method=run.config.transplant.method,
        tensors=len(proof["transplanted"]),  # fewer than planned if two units share a tensor
        parameters=written,
        differing=hybrid.differing(),
        parameters_total=plan.parameters_total,
        percent=100.0 * written / plan.parameters_total,
        bytes=plan.bytes,
        digest=hashlib.sha256(listing.encode()).hexdigest(),
        largest=largest,
        largest_student=largest_student,
        student_share=student_share(run.config.transplant, pair),
    )
