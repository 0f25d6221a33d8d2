from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from operator_cases import EIGHT, LEAST_FLOPS, MORE, judged_by, necessary_flops

from profiler.operator import Operator


@given(
    size=st.integers(4, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.tuples(*[st.integers(0, 4)] * 4),
    kind=st.sampled_from(["conv2d", "depthwise_conv2d"]),
)
def test_operations_on_padding_are_not_necessary(
    size: int, kernel: int, stride: int, padding: tuple[int, int, int, int], kind: str
) -> None:
    operator = Operator(kind, (1, size, size + 1, 5), 5, (kernel, 1), (stride, 1), padding)
    top, left, bottom, right = padding
    image = np.pad(np.ones((size, size + 1)), ((top, bottom), (left, right)))
    terms = 5 if kind == "conv2d" else 1
    _, height, width, _ = operator.output_shape
    expected = sum(
        image[row * stride : row * stride + kernel, column].sum() * terms * 5 * 2
        for row in range(height)
        for column in range(width)
    )
    assert necessary_flops(operator) == expected


def test_products_without_padding_need_all_their_operations() -> None:
    product = Operator("dense", (197, 1, 1, 192), 768)
    assert necessary_flops(product) == 2 * 197 * 192 * 768


def test_what_an_operator_is_judged_by_follows_from_its_rows_and_work() -> None:
    def pointwise(size: int, n_in: int, n_out: int) -> Operator:
        return Operator("conv2d", (1, size, size, n_in), n_out)

    assert judged_by(pointwise(4, 1000, 320)) == "product"  # 16 rows, 10.24 MFLOP
    assert judged_by(pointwise(4, 1000, 300)) == "not"  # 9.6 MFLOP
    assert judged_by(pointwise(3, 1000, 1000)) == "not"  # 9 rows
    assert judged_by(pointwise(1, 1000, 1000)) == "vector"
    assert judged_by(Operator("depthwise_conv2d", (1, 56, 56, 960), 960, (3, 3))) == "not"
    assert judged_by(Operator("conv2d", (1, 28, 28, 256), 256, groups=4)) == "not"


def test_the_benchmark_has_what_its_goals_speak_of() -> None:
    judged = [case.judged for case in MORE]
    assert len(EIGHT) == 8
    assert judged.count("product") >= 20
    assert judged.count("vector") == 4
    assert "not" not in judged
    assert {case.judged for case in EIGHT} == {"product", "vector", "not"}
    assert all(c.operator.n_flops >= LEAST_FLOPS for c in EIGHT if c.judged == "product")
    assert len({case.name for case in (*EIGHT, *MORE)}) == len(EIGHT) + len(MORE)
