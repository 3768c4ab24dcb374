"""The deployments of `slf serve-flows`: what runs when. `prefect.yaml` says the same for a work pool (tested)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.ablate import ablate_flow
from flows.evaluate import evaluate_flow
from flows.extract import extract_flow
from flows.ingest import ingest_flow
from flows.verify import verify_flow


@dataclass(frozen=True)
class Plan:
    """One deployment.

    Attributes:
        flow: what runs.
        cron: when; None for on demand.
        when: the same in words.
        parameters: what the flow is given besides the store.
        collision: what becomes of a run while another of the deployment runs: CANCEL_NEW or ENQUEUE.
    """

    flow: Any
    cron: str | None
    when: str
    parameters: dict[str, Any]
    collision: str

    @property
    def name(self) -> str:
        """The deployment's name is the flow's."""
        return str(self.flow.name)


PLANS = (
    Plan(ingest_flow, "0 2 * * *", "every night at 2", {}, "CANCEL_NEW"),
    Plan(extract_flow, "15 * * * *", "every hour at a quarter past", {}, "CANCEL_NEW"),
    Plan(verify_flow, "0 4 * * 0", "Sundays at 4", {}, "CANCEL_NEW"),
    Plan(evaluate_flow, None, "on demand", {"run": "", "on": ""}, "ENQUEUE"),
    Plan(ablate_flow, None, "on demand", {"on": "", "gallery": ""}, "ENQUEUE"),
)


def deployments(home: Path, *, schedules: bool, timezone: str) -> list[Any]:
    """Prefect's deployments of a store; without schedules all of them run on demand only."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    return [
        plan.flow.to_deployment(
            plan.name,
            schedules=[Cron(plan.cron, timezone=timezone)] if plan.cron and schedules else [],
            concurrency_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy(plan.collision)
            ),
            parameters={"home": str(home), **plan.parameters},
            description=f"{plan.flow.description}\n\nRuns {plan.when}; one at a time.",
            tags=["slf", plan.name],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for plan in PLANS
    ]
