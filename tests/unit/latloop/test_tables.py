"""Each table answers the look-ups that the search codes make, and they add up to the network."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from costmodel.prediction import Prediction
from latloop.tables import FORMATS, make_table, supported_formats
from profiler.operator import Operator, parse_key
from searchspace.genes import Genome
from searchspace.space import SearchSpace, load_space

OFA = load_space("ofa_mbv3")
MACRO = load_space("nas_bench_macro")
FIXED_US = 37.5
#: What the device of these tests takes: an own formula, different for every operator.
US_PER_MAC, US_PER_BYTE = 3.1e-4, 2.3e-5


def _operator_us(operator: Operator) -> float:
    moved = operator.input_bytes + operator.output_bytes + operator.weight_bytes
    return US_PER_MAC * operator.n_macs + US_PER_BYTE * moved + 0.7


def _predict(operators: Sequence[Operator]) -> Prediction:
    mean = np.array([_operator_us(operator) for operator in operators])
    return Prediction(mean, 0.02 * mean, 0.9 * mean, 1.2 * mean, 0.95)


def _network_us(space: SearchSpace, genome: Genome) -> float:
    return FIXED_US + sum(_operator_us(op) for op in space.lower(genome).operators)


def _table(space: SearchSpace, table_format: str) -> str:
    return make_table(space, _predict, table_format, FIXED_US, "bench7").text


def _genomes(space: SearchSpace) -> list[Genome]:
    rng = np.random.default_rng(3)
    return [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(20))]


def _read_yaml(text: str) -> dict[str, dict[str, float]]:
    """The subset of YAML that the tables use, as PyYAML reads it: a float needs its point."""
    table: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if match := re.fullmatch(r"(\S+):", line):
            assert match[1] not in table
            table[match[1]] = {}
            last = match[1]
        else:
            found = re.fullmatch(r"  (\w+): (\d+\.\d+)", line)
            assert found, line
            table[last][found[1]] = float(found[2])
    return table


def _expanded_conv(size: int, width: int, out_size: int, out_width: int, rest: str) -> str:
    shapes = f"input:{size}x{size}x{width}-output:{out_size}x{out_size}x{out_width}"
    return f"expanded_conv-{shapes}-{rest}"


class _Placed(NamedTuple):
    size: int
    out_size: int
    width: int
    out_width: int
    expand: int
    kernel: int
    stride: int
    se: int
    hs: int

    def key(self, expand: int, more: str = "") -> str:
        skip = int(self.stride == 1 and self.width == self.out_width)
        rest = f"expand:{expand}-kernel:{self.kernel}-stride:{self.stride}-idskip:{skip}{more}"
        return _expanded_conv(self.size, self.width, self.out_size, self.out_width, rest)


def _ofa_blocks(genome: Genome) -> list[_Placed]:
    """The blocks of a genome as Once-for-All's configuration lists them."""
    stages = ((24, 2, 0, 0), (40, 2, 1, 0), (80, 2, 0, 1), (112, 1, 1, 1), (160, 2, 1, 1))
    blocks = [_Placed(112, 112, 16, 16, expand=1, kernel=3, stride=1, se=0, hs=0)]
    size, width = 112, 16
    for stage, (out_width, stride, se, hs) in enumerate(stages):
        for position in range(genome[40 + stage]):
            step = stride if position == 0 else 1
            out = (size - 1) // step + 1
            slot = 4 * stage + position
            expand, kernel = genome[20 + slot], genome[slot]
            blocks.append(_Placed(size, out, width, out_width, expand, kernel, step, se, hs))
            size, width = out, out_width
    return blocks


def test_once_for_alls_look_ups_add_up_to_the_network() -> None:
    table = _read_yaml(_table(OFA, "ofa"))
    for genome in _genomes(OFA):
        keys = ["Conv-input:224x224x3-output:112x112x16"]
        keys += [b.key(b.width * b.expand, f"-se:{b.se}-hs:{b.hs}") for b in _ofa_blocks(genome)]
        keys += [
            "Conv_1-input:7x7x160-output:7x7x960",
            "AvgPool2D-input:7x7x960-output:1x1x960",
            "Conv_2-input:1x1x960-output:1x1x1280",
            "Logits-input:1x1x1280-output:1000",
        ]
        total_ms = sum(table[key]["mean"] for key in keys)
        assert total_ms == pytest.approx(_network_us(OFA, genome) / 1e3, rel=1e-6)


def test_proxyless_look_ups_add_up_to_the_network() -> None:
    table = _read_yaml(_table(OFA, "proxyless"))
    for genome in _genomes(OFA):
        keys = ["Conv-input:224x224x3-output:112x112x16"]
        keys += [b.key(b.expand) for b in _ofa_blocks(genome)]
        keys += ["Conv_1-input:7x7x160-output:7x7x960", "Logits-input:7x7x960-output:1000"]
        total_ms = sum(table[key]["mean"] for key in keys)
        assert total_ms == pytest.approx(_network_us(OFA, genome) / 1e3, rel=1e-6)


def test_proxyless_look_ups_cover_nas_bench_macro() -> None:
    table = _read_yaml(_table(MACRO, "proxyless"))
    for genome in _genomes(MACRO):
        keys = ["Conv-input:32x32x3-output:32x32x32"]
        size, width = 32, 32
        for slot, gene in enumerate(genome):
            stride = 2 if slot in {0, 2, 5} else 1
            out, out_width = size // stride, width * stride
            if gene:
                expand, kernel = (3, 3) if gene == 1 else (6, 5)
                rest = f"expand:{expand}-kernel:{kernel}-stride:{stride}-idskip:{int(stride == 1)}"
                keys.append(_expanded_conv(size, width, out, out_width, rest))
            elif stride == 2:
                keys.append(f"Conv-input:{size}x{size}x{width}-output:{out}x{out}x{out_width}")
            size, width = out, out_width
        keys += ["Conv_1-input:4x4x256-output:4x4x1280", "Logits-input:4x4x1280-output:10"]
        total_ms = sum(table[key]["mean"] for key in keys)
        assert total_ms == pytest.approx(_network_us(MACRO, genome) / 1e3, rel=1e-6)


def _read_fbnet(text: str) -> list[dict[str, float]]:
    """As FBNet's `LookUpTable._read_lookup_table_from_file` does: every line but the first."""
    names, *lines = text.splitlines()
    values = [list(map(float, line.split(" "))) for line in lines]
    return [dict(zip(names.split(" "), row, strict=True)) for row in values]


def test_fbnet_rows_add_up_to_the_network_beside_the_stated_rest() -> None:
    table = make_table(MACRO, _predict, "fbnet", FIXED_US, "bench7")
    rows = _read_fbnet(table.text)
    assert len(rows) == 8
    names = ("skip", "ir_k3_e3", "ir_k5_e6")
    for genome in _genomes(MACRO):
        total_us = sum(row[names[gene]] for row, gene in zip(rows, genome, strict=True))
        expected_us = _network_us(MACRO, genome)
        assert total_us + table.outside_us == pytest.approx(expected_us, rel=1e-6)
    assert f"{table.outside_us:.6f} us" in table.note


def test_fbnet_skips_inactive_slots_of_ofa_mbv3() -> None:
    table = make_table(OFA, _predict, "fbnet", FIXED_US, "bench7")
    rows = _read_fbnet(table.text)
    assert len(rows) == 20
    for genome in _genomes(OFA):
        total_us = 0.0
        for slot, row in enumerate(rows):
            is_active = slot % 4 < genome[40 + slot // 4]
            total_us += row[f"ir_k{genome[slot]}_e{genome[20 + slot]}" if is_active else "skip"]
        expected_us = _network_us(OFA, genome)
        assert total_us + table.outside_us == pytest.approx(expected_us, rel=1e-6)


def test_fbnets_skip_costs_a_convolution_only_where_the_shape_changes() -> None:
    rows = _read_fbnet(_table(OFA, "fbnet"))
    # The first block of every stage changes the width.
    assert [slot for slot, row in enumerate(rows) if row["skip"] > 0] == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("space", [OFA, MACRO], ids=["ofa_mbv3", "nas_bench_macro"])
def test_csv_lists_every_operator_and_adds_up(space: SearchSpace) -> None:
    rows = list(csv.DictReader(io.StringIO(_table(space, "csv"))))
    listed = {row["key"]: row for row in rows if row["level"] == "operator"}
    assert {parse_key(key) for key in listed} == set(space.operators())
    fixed_ms = [float(row["mean_ms"]) for row in rows if row["level"] == "fixed"]
    for genome in _genomes(space):
        operators = space.lower(genome).operators
        total_ms = sum(fixed_ms) + sum(float(listed[op.key]["mean_ms"]) for op in operators)
        assert total_ms == pytest.approx(_network_us(space, genome) / 1e3, rel=1e-6)
    for key, row in listed.items():
        operator = parse_key(key)
        assert int(row["n_macs"]) == operator.n_macs
        assert float(row["low_ms"]) == pytest.approx(0.9e-3 * _operator_us(operator), rel=1e-5)
        assert float(row["high_ms"]) == pytest.approx(1.2e-3 * _operator_us(operator), rel=1e-5)


def test_csv_blocks_add_up_too() -> None:
    rows = list(csv.DictReader(io.StringIO(_table(MACRO, "csv"))))
    blocks = {row["key"]: float(row["mean_ms"]) for row in rows if row["level"] != "operator"}
    names = ("skip", "ir_k3_e3", "ir_k5_e6")
    for genome in _genomes(MACRO):
        keys = [f"block{slot}:{names[gene]}" for slot, gene in enumerate(genome, start=1)]
        total_ms = sum(blocks[key] for key in ["network", "stem", *keys, "head", "pool"])
        total_ms += blocks["classifier"]
        assert total_ms == pytest.approx(_network_us(MACRO, genome) / 1e3, rel=1e-6)


def test_tiny_latencies_are_written_without_exponent() -> None:
    def tiny(operators: Sequence[Operator]) -> Prediction:
        mean = np.full(len(operators), 0.004)
        return Prediction(mean, mean, mean, mean, 0.95)

    table = make_table(OFA, tiny, "ofa").text
    values = _read_yaml(table)
    assert values["Logits-input:1x1x1280-output:1000"]["mean"] == pytest.approx(4e-6)


def test_a_format_that_cannot_hold_a_space_names_those_that_can() -> None:
    assert supported_formats(OFA) == FORMATS
    assert supported_formats(MACRO) == ("proxyless", "fbnet", "csv")
    with pytest.raises(ValueError, match=r"ofa cannot hold nas_bench_macro.*proxyless, fbnet, csv"):
        make_table(MACRO, _predict, "ofa")


def test_an_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="format must be one of ofa, proxyless, fbnet, csv"):
        make_table(OFA, _predict, "toml")


def test_a_device_name_cannot_leave_its_comment() -> None:
    text = make_table(OFA, _predict, "ofa", device="a\nConv-input: {mean: 0}").text
    assert len([line for line in text.splitlines() if line.startswith("#")]) == 2
    assert _read_yaml(text)
