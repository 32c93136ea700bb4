"""The controls of public frameworks for which a rule is evidence.

A rule that passes is evidence for its part of a control and no more: most controls also ask for what a
program cannot show, such as reviews, and a benchmark's own audit of the running system stays necessary.

Where the numbers were compared, title by title, with what each rule checks (2026-11-22):

- CIS EKS 1.8.0 and CIS Kubernetes 1.10: all that rules name, in kube-bench's `cfg/eks-1.8.0` and
  `cfg/cis-1.10` (github.com/aquasecurity/kube-bench), which repeat the benchmarks' numbers and titles.
- AWS FSBP 1.0.0: all that rules name, in the list of the standard's controls in AWS' Security Hub user guide.
  Security Hub's controls of KMS keys' rotation (KMS.4) and of SageMaker's monitoring jobs are not in the list
  as it was read; no rule names them.
- GDPR: the articles were not compared with anything, because no public list maps them to settings.
"""

from dataclasses import dataclass
from enum import Enum


class Framework(Enum):
    """A framework, by its name and the version whose numbers are meant."""

    CIS_EKS = "CIS Amazon EKS Benchmark 1.8.0"
    CIS_KUBERNETES = "CIS Kubernetes Benchmark 1.10.0"
    FSBP = "AWS Foundational Security Best Practices 1.0.0"
    GDPR = "Regulation (EU) 2016/679 (GDPR)"

    @property
    def short(self) -> str:
        """Its name in tables."""
        return _SHORT[self]


_SHORT = {
    Framework.CIS_EKS: "CIS EKS",
    Framework.CIS_KUBERNETES: "CIS Kubernetes",
    Framework.FSBP: "AWS FSBP",
    Framework.GDPR: "GDPR",
}


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a framework.

    Attributes:
        framework: The framework.
        number: The control's number or name in it, such as `5.4.2`, `EKS.1` or `Art. 32`.
    """

    framework: Framework
    number: str


def cis_eks(*numbers: str) -> tuple[Control, ...]:
    """Controls of the CIS benchmark for EKS."""
    return tuple(Control(Framework.CIS_EKS, number) for number in numbers)


def cis_kubernetes(*numbers: str) -> tuple[Control, ...]:
    """Controls of the CIS benchmark for Kubernetes."""
    return tuple(Control(Framework.CIS_KUBERNETES, number) for number in numbers)


def fsbp(*numbers: str) -> tuple[Control, ...]:
    """Controls of AWS' Foundational Security Best Practices, as Security Hub numbers them."""
    return tuple(Control(Framework.FSBP, number) for number in numbers)


def gdpr(*articles: int) -> tuple[Control, ...]:
    """Articles of the GDPR. The mapping of a technical rule to an article is this project's own."""
    return tuple(Control(Framework.GDPR, f"Art. {article}") for article in articles)
