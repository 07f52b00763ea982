"""Vectors of float32 for numba: what a processor's registers hold, spelled out.

The compiler's own vectorisation leaves sums over channels and taps in memory, since it cannot turn an outer loop over
pixels into lanes; a kernel that names its vectors keeps them in registers. Every operation is one instruction or a
few. NaN goes through all of them.
"""

import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

# One register where the processor has AVX-512. On others 8 lanes are one register (AVX2) or two (NEON).
LANES = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8

_FLOATS, _INTEGERS = (ir.VectorType(element, LANES) for element in (ir.FloatType(), ir.IntType(32)))
_EXP2_DEGREE = 7  # the Taylor series on [-0.5, 0.5] is then off by 5e-9, a tenth of what rounding adds
_primitive: Any = intrinsic  # whose annotations count the typing context among the arguments of a call


class Vector(types.Type):
    """LANES values of float32."""


vector = Vector(name=f"float32x{LANES}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Vector) -> None:
        super().__init__(manager, of, _FLOATS)


def _constant(value: float, of: ir.VectorType = _FLOATS) -> ir.Constant:
    return ir.Constant(of, [value] * LANES)


def _address(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@_primitive
def load(typing: Any, array: Any, index: Any) -> Any:
    """The LANES values of a 1-D contiguous float32 array from `index` on; no bounds are checked."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *arguments), align=4)

    return vector(array, types.intp), generate


@_primitive
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to LANES places of a 1-D contiguous float32 array; no bounds are checked."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@_primitive
def splat(typing: Any, value: Any) -> Any:
    """The same value in every lane."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, first, _constant(0, _INTEGERS))

    return vector(types.float32), generate


@_primitive(prefer_literal=True)
def shifted(typing: Any, a: Any, b: Any, by: Any) -> Any:
    """LANES values from lane `by` of `a` on, followed by those of `b`; `by` is written out as a number <= LANES.

    Two loads and a shift replace an unaligned load, which takes longer where it crosses two cache lines.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        lanes = ir.Constant(_INTEGERS, [by.literal_value + lane for lane in range(LANES)])
        return builder.shuffle_vector(*arguments[:2], lanes)

    return vector(vector, vector, by), generate


def _operation(form: Callable[..., Any], count: int) -> Any:
    """An operation on `count` vectors from the function that writes it with a builder."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return form(builder, *arguments)

    signature = vector(*[vector] * count)
    if count == 1:
        return _primitive(lambda typing, a: (signature, generate))
    if count == 2:
        return _primitive(lambda typing, a, b: (signature, generate))
    return _primitive(lambda typing, a, b, c: (signature, generate))


def _multiply_add(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """One instruction where the processor has it: "contract" allows that, where an explicit fma would demand it."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _choose(builder: ir.IRBuilder, comparison: str, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(comparison, a, b), a, b)


def _exp2(builder: ir.IRBuilder, x: Any) -> Any:
    """2 ** x for x <= 0, within 2e-7 of itself; 2 ** -126 below.

    x = n + f with n whole and |f| <= 0.5: a polynomial in f, its exponent raised by n.
    """
    x = _choose(builder, ">", _constant(-126.0), x)
    whole = _constant(1.5 * 2**23)  # the sum has n in its last bits
    shifted = builder.fadd(x, whole)
    f = builder.fsub(x, builder.fsub(shifted, whole))
    power = _constant(math.log(2) ** _EXP2_DEGREE / math.factorial(_EXP2_DEGREE))
    for i in reversed(range(_EXP2_DEGREE)):
        power = _multiply_add(builder, power, f, _constant(math.log(2) ** i / math.factorial(i)))
    exponent = builder.shl(builder.bitcast(shifted, _INTEGERS), _constant(23, _INTEGERS))
    return builder.bitcast(builder.add(builder.bitcast(power, _INTEGERS), exponent), _FLOATS)


add = _operation(lambda builder, a, b: builder.fadd(a, b), 2)
subtract = _operation(lambda builder, a, b: builder.fsub(a, b), 2)
multiply = _operation(lambda builder, a, b: builder.fmul(a, b), 2)
divide = _operation(lambda builder, a, b: builder.fdiv(a, b), 2)
multiply_add = _operation(_multiply_add, 3)
larger = _operation(lambda builder, a, b: _choose(builder, ">", a, b), 2)
smaller = _operation(lambda builder, a, b: _choose(builder, "<", a, b), 2)
exp2 = _operation(_exp2, 1)
