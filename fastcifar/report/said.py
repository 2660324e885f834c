"""What the runs say of the report's claims, in plain sentences that fit on one screen."""

from collections.abc import Sequence

from fastcifar.experiments import PROTOCOLS
from fastcifar.report.claims import Claim, Judged, surviving
from fastcifar.report.evidence import Evidence
from fastcifar.report.verdict import CONFIRMED, CONTRADICTED, DECIDED, NOT_RUN, UNDECIDED
from fastcifar.show.text import counted


def sentences(judged: Judged, evidence: Evidence) -> list[str]:
    """Return a sentence for each verdict under each protocol, and sentences on how far the verdicts can be trusted."""
    said = []
    for protocol in judged[0][1] if judged else ():
        for kind in (CONFIRMED, CONTRADICTED, UNDECIDED):
            claims = [claim for claim, by_protocol in judged if by_protocol[protocol].verdict == kind]
            if claims:
                said.append(f"{kind.capitalize()} under {_names(protocol, judged)}: {_listed(claims)}")
        missing = sum(by_protocol[protocol].verdict == NOT_RUN for _, by_protocol in judged)
        if missing:
            said.append(f"Not run under {_names(protocol, judged)}: {counted(missing, 'claim')}.")
    decided = sum(verdict.verdict in DECIDED for _, by_protocol in judged for verdict in by_protocol.values())
    together = surviving(judged)
    if together:
        said.append(
            f"Of {counted(decided, 'decided verdict')}, {len(together)} rest on intervals. Each of these is a false "
            f"alarm with a chance of 2.5 % at most; {sum(together.values())} hold all together with a chance of 5 %."
        )
    if evidence.reencoded:
        said.append("The images are a re-encoding of CIFAR-10's, so every verdict is about the re-encoded images.")
    return said or ["No run may judge a claim."]


def _names(protocol: str, judged: Judged) -> str:
    """Return a protocol with those that equal it in every field and have no runs of their own: their claims are its."""
    own = PROTOCOLS[protocol]
    same = [
        name
        for name, other in PROTOCOLS.items()
        if name not in judged[0][1] and vars(other) | {"name": ""} == vars(own) | {"name": ""}
    ]
    return " and ".join([protocol, *(f"{name}, which has the same rules" for name in same)])


def _listed(claims: Sequence[Claim]) -> str:
    return " ".join(claim.said for claim in claims)
