"""Targets of boards, as their feature flags allow."""

from __future__ import annotations

import pytest

from devices.board import Board
from devices.inventory_rules import ARCHITECTURES, TARGET_RULES
from devices.tables import TargetTable
from profiler.link import ZIG_TARGETS
from profiler.target import TRIPLES, Target, override_target, table_of, target_of

V3 = ("avx", "avx2", "fma", "sse2")
V4 = (*V3, "avx512bw", "avx512dq", "avx512f", "avx512vl")


def board(
    architecture: str, features: tuple[str, ...] = (), l1_bytes: int = 0, l2_bytes: int = 0
) -> Board:
    return Board(architecture, "A CPU", features, 4, 1 << 32, l1_bytes, l2_bytes, 0, None, "")


@pytest.mark.parametrize(
    ("features", "cpu", "lanes", "n_vector_registers"),
    [
        ((), "x86-64", 4, 16),
        (("sse2", "avx"), "x86-64", 4, 16),
        (("avx2",), "x86-64", 4, 16),  # no fma
        (V3, "x86-64-v3", 8, 16),
        (("avx512f", *V3), "x86-64-v3", 8, 16),
        (V4, "x86-64-v4", 16, 32),
    ],
)
def test_x86_gets_the_level_that_all_its_flags_allow(
    features: tuple[str, ...], cpu: str, lanes: int, n_vector_registers: int
) -> None:
    target = target_of(board("x86_64", features))
    assert (target.triple, target.cpu) == ("x86_64-linux-gnu", cpu)
    assert (target.lanes, target.n_vector_registers) == (lanes, n_vector_registers)


def test_64_bit_arm_has_32_vectors_of_four() -> None:
    target = target_of(board("aarch64", ("asimd",)))
    assert target.triple == "aarch64-linux-gnu"
    assert (target.lanes, target.n_vector_registers) == (4, 32)


def test_32_bit_arm_is_built_with_neon_and_hard_floats() -> None:
    target = target_of(board("armv7l", ("neon",)))
    assert target.triple == "armv7l-linux-gnueabihf"
    assert {"+neon", "+vfp4"} <= set(target.features)
    assert (target.lanes, target.n_vector_registers) == (4, 14)


@pytest.mark.parametrize(
    ("isa", "lanes"),
    [
        ("rv64imafdc", 1),
        ("rv64imafdc_zicsr_zvfh", 1),
        ("rv64imafdcv", 4),
        ("rv64imafdcv_zicbom_sstc", 4),
        ("rv64imafdcvh_zicsr", 4),
        ("rv64imafdcvsu", 1),  # the draft's vectors
        ("rv32imafdcv", 1),
    ],
)
def test_risc_v_has_vectors_of_four_or_single_numbers(isa: str, lanes: int) -> None:
    target = target_of(board("riscv64", (isa,)))
    assert target.triple == "riscv64-linux-gnu"
    assert {"+f", "+d"} <= set(target.features)
    assert ("+v" in target.features) == (lanes > 1)
    assert (target.lanes, target.n_vector_registers) == (lanes, 32)


def test_risc_v_that_tells_nothing_is_built_without_vectors() -> None:
    assert target_of(board("riscv64")) == target_of(board("riscv64", ("rv64imafdc",)))


@pytest.mark.parametrize("architecture", ["mips64", "", "arm", "ppc64le"])
def test_an_unknown_architecture_is_refused_with_the_known_ones(architecture: str) -> None:
    with pytest.raises(ValueError, match=r"must be x86_64, .* or riscv64") as caught:
        target_of(board(architecture))
    assert f"got {architecture!r}" in str(caught.value)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "armv7l", "riscv64"])
def test_caches_are_the_boards_where_it_tells_them(architecture: str) -> None:
    told = target_of(board(architecture, (), 48 << 10, 2 << 20))
    assert (told.l1_bytes, told.l2_bytes) == (48 << 10, 2 << 20)
    untold = target_of(board(architecture))
    assert (untold.l1_bytes, untold.l2_bytes) == (32 << 10, 512 << 10)


def test_threads_are_kept_and_checked() -> None:
    assert target_of(board("aarch64"), threads=3).threads == 3
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        target_of(board("aarch64"), threads=0)


def test_whatever_changes_the_code_changes_the_key() -> None:
    variants = [
        Target("x86_64-linux-gnu", "x86-64"),
        Target("aarch64-linux-gnu", "x86-64"),
        Target("x86_64-linux-gnu", "x86-64-v3"),
        Target("x86_64-linux-gnu", "x86-64", ("+avx",)),
        Target("x86_64-linux-gnu", "x86-64", vector_bytes=32),
        Target("x86_64-linux-gnu", "x86-64", n_vector_registers=8),
        Target("x86_64-linux-gnu", "x86-64", l1_bytes=1),
        Target("x86_64-linux-gnu", "x86-64", l2_bytes=1),
        Target("x86_64-linux-gnu", "x86-64", threads=2),
    ]
    assert len({variant.key for variant in variants}) == len(variants)


def test_there_is_a_triple_for_each_architecture_and_a_linker_for_each_triple() -> None:
    assert tuple(target_of(board(name)).triple for name in ARCHITECTURES) == TRIPLES
    assert set(TRIPLES) == set(ZIG_TARGETS)


def test_what_a_person_says_of_a_target_stands_in_place_of_what_follows() -> None:
    plain = target_of(board("aarch64"), threads=2)
    said = TargetTable(cpu="cortex-a76", features=("+dotprod",), l2_bytes=1 << 20)
    changed = override_target(plain, said)
    assert (changed.cpu, changed.features, changed.l2_bytes) == (
        "cortex-a76", ("+dotprod",), 1 << 20,
    )  # fmt: skip
    assert (changed.triple, changed.vector_bytes, changed.threads) == (plain.triple, 16, 2)
    assert override_target(plain, TargetTable()) == plain


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_target_survives_its_table(architecture: str) -> None:
    target = target_of(board(architecture), threads=3)
    table = table_of(target)
    assert set(table) == set(TARGET_RULES)
    frozen = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    again = override_target(target_of(board("x86_64"), threads=3), TargetTable(**frozen))  # type: ignore[arg-type]
    assert again == target


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (TargetTable(triple="mips-linux-gnu"), "triple must be one of x86_64-linux-gnu, .* got 'm"),
        (
            TargetTable(triple="riscv64-linux-gnu"),
            "triple must be 'aarch64-linux-gnu' .* unless cpu, features, n_vector_registers, vec",
        ),
        (TargetTable(l1_bytes=1 << 21), "l1_bytes must be <= l2_bytes, 524288, got 2097152"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(said: TargetTable, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        override_target(target_of(board("aarch64")), said)
