"""The options that are settings, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ascend_overlay.commands.cli.common import LOAD, OVERLAY_NAMES, Listed, names, option_of, overlay_names
from ascend_overlay.settings import DRIFT, FOREIGN, WEIGHT_NZ, Settings, preferences


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--only", cls=Listed, metavar="NAME,...", help="Enable these overlays only.", **OVERLAY_NAMES),
            click.option(
                "--exclude", cls=Listed, metavar="NAME,...", help="Leave these overlays out.", **OVERLAY_NAMES
            ),
            click.option(
                "--require",
                cls=Listed,
                metavar="NAME,...",
                help="Stop where one of these is not in force.",
                **OVERLAY_NAMES,
            ),
            click.option("--strict/--no-strict", default=None, help="Stop on a failing overlay, or only warn."),
            click.option("--plugins", cls=Listed, metavar="NAME,...", help="Allow these third-party plugins only."),
            LOAD,
            click.option("--prefer", cls=Listed, metavar="TARGET=OVERLAY,...", help="Who wins a conflict on a target."),
            click.option("--ledger", metavar="DIR", type=click.Path(), help="Write one ledger file per process."),
            click.option("--trace/--no-trace", default=None, help="Count the calls of NPU operators."),
            click.option("--weight-nz", type=click.Choice(WEIGHT_NZ), help="Which weights get the layout FRACTAL_NZ."),
            click.option(
                "--fused-qkv/--no-fused-qkv",
                default=None,
                help="Norms of queries and keys, rotary embedding and cache write in one operator.",
            ),
            click.option(
                "--fused-quant/--no-fused-quant",
                default=None,
                help="Norms and activations in one operator with the quantization of their result.",
            ),
            click.option(
                "--fused-experts/--no-fused-experts",
                default=None,
                help="First product, activation and quantization of int8 experts in one operator.",
            ),
            click.option(
                "--graph-wait/--no-graph-wait",
                default=None,
                help="The host waits for a captured graph before its attention gets new lengths.",
            ),
            click.option("--foreign", type=click.Choice(FOREIGN), help="What others' changes of patched places are."),
            click.option("--lock", metavar="FILE", type=click.Path(), help="Compare with this overlay.lock."),
            click.option("--drift", type=click.Choice(DRIFT), help="What a difference from the lock is."),
            click.option("--vllm-release", metavar="RELEASE", help="Which vLLM a build is that does not say so."),
        ]
    ):
        command = option(command)
    return command


def settings_of(
    only: str | None,
    exclude: str | None,
    require: str | None,
    strict: bool | None,
    plugins: str | None,
    load: str | None,
    prefer: str | None,
    ledger: str | None,
    trace: bool | None,
    weight_nz: str | None,
    fused_qkv: bool | None,
    fused_quant: bool | None,
    fused_experts: bool | None,
    graph_wait: bool | None,
    foreign: str | None,
    lock: str | None,
    drift: str | None,
    vllm_release: str | None,
) -> Settings:
    return Settings.from_env().updated(
        only=overlay_names(only, "--only"),
        exclude=names(exclude),
        require=overlay_names(require, "--require"),
        strict=strict,
        plugins=names(plugins),
        load=names(load),
        prefer=None if prefer is None else preferences(prefer, whose="--prefer"),
        ledger=ledger,
        trace=trace,
        weight_nz=weight_nz,
        fused_qkv=fused_qkv,
        fused_quant=fused_quant,
        fused_experts=fused_experts,
        graph_wait=graph_wait,
        foreign=foreign,
        lock=lock,
        drift=drift,
        vllm_release=vllm_release,
        by=option_of,
    )
