"""`docs/aws-double.md`: which types and functions the stand-in aws provider serves, from its tables."""

from docs.generator.markdown import code, page, table
from rehearsal.aws.functions import FUNCTIONS
from rehearsal.aws.resources import KINDS
from rehearsal.aws.resources.kind import Kind

_INTRODUCTION = """\
What the stand-in `aws` provider serves in a rehearsal; [rehearsal.md](rehearsal.md#the-aws-double) says
what it is and what it does not prove. Every other type and function is refused at preview."""

_RESOURCES = """\
Properties, which of them are required, and their types are those of the installed `pulumi_aws`. *moto*:
the resource is made, read, changed and removed there by calls of the AWS SDK. *store*: its checked
inputs are kept, and nothing else happens. A change of what is in the third column replaces the
resource: no call of the fourth column takes it except to say which resource is meant
(`tests/unit/test_aws_provider.py` compares this with the AWS SDK). Where the fourth column is empty,
AWS changes nothing but tags."""


def files() -> dict[str, str]:
    """The page."""
    kinds = sorted(KINDS.values(), key=lambda kind: kind.token)
    resources = table(["type", "made in", "replaced by a change of", "changed by"], map(_row, kinds))
    functions = table(["function"], [[code(token)] for token in sorted(FUNCTIONS)])
    return {
        "aws-double.md": page(
            "# Types and functions of the AWS double",
            "Written by `make docs` from the code.",
            _INTRODUCTION,
            "## Resources",
            _RESOURCES,
            resources,
            "## Functions",
            functions,
        )
    }


def _row(kind: Kind) -> list[str]:
    return [
        code(kind.token),
        "moto" if kind.real else "store",
        ", ".join(map(code, sorted(kind.replaces))),
        ", ".join(map(code, kind.updates)),
    ]
