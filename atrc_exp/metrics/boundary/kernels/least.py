"""The two least of many differences, on the processor's vectors.

An auction spends nearly all its time on it. The compiler's own vectorisation stops at every row of a disc, where a
least value has to be found among the lanes; here each lane keeps the two least of its own over all rows.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # one register with AVX-512, two with AVX2
_ABOVE_ALL = 1 << 30

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_INT32, LANES)
_primitive: Any = intrinsic  # whose annotations count the typing context among the arguments of a call


def _constant(values: int | range) -> ir.Constant:
    return ir.Constant(_VECTOR, [values] * LANES if isinstance(values, int) else list(values))


def _splat(builder: ir.IRBuilder, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INT32(0))
    return builder.shuffle_vector(first, first, _constant(0))


def _load(builder: ir.IRBuilder, data: Any, index: Any) -> Any:
    return builder.load(builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer()), align=4)


def _least_lane(builder: ir.IRBuilder, values: Any) -> Any:
    of = ir.FunctionType(_INT32, [_VECTOR])
    function = cgutils.get_or_insert_function(builder.module, of, f"llvm.vector.reduce.smin.v{LANES}i32")
    return builder.call(function, [values])


@_primitive
def two_least(typing: Any, duals: Any, at: Any, shift: Any, costs: Any) -> Any:
    """The position of the least `costs[c, i] - duals[at + shift[c] + i]`, that difference, and the second least one.

    No bounds are checked. Differences are below 2 ** 30. Of equal ones the first in the order of `costs` is taken, so
    that pixels between equally near ones all turn the same way.

    Args:
        duals: 1-D int32.
        at: int64.
        shift: (C,) int64.
        costs: (C, LANES) int32.

    Returns:
        Three int64.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        dual_array, shift_array, cost_array = (
            context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 3)
        )
        least, second, place = (
            cgutils.alloca_once_value(builder, _constant(value)) for value in (_ABOVE_ALL, _ABOVE_ALL, 0)
        )
        lanes, size = _constant(range(LANES)), _INT64(LANES)
        with cgutils.for_range(builder, cgutils.unpack_tuple(builder, shift_array.shape, 1)[0]) as chunk:
            position = builder.add(arguments[1], builder.load(builder.gep(shift_array.data, [chunk.index])))
            first = builder.mul(chunk.index, size)
            value = builder.sub(_load(builder, cost_array.data, first), _load(builder, dual_array.data, position))
            before, other = builder.load(least), builder.load(second)
            is_less = builder.icmp_signed("<", value, before)
            larger = builder.select(is_less, before, value)
            builder.store(builder.select(builder.icmp_signed("<", larger, other), larger, other), second)
            builder.store(builder.select(is_less, value, before), least)
            here = builder.add(_splat(builder, builder.trunc(first, _INT32)), lanes)
            builder.store(builder.select(is_less, here, builder.load(place)), place)
        leasts, places = builder.load(least), builder.load(place)
        winner = _least_lane(builder, leasts)
        ties = builder.icmp_signed("==", leasts, _splat(builder, winner))
        index = _least_lane(builder, builder.select(ties, places, _constant(_ABOVE_ALL)))
        is_index = builder.icmp_signed("==", places, _splat(builder, index))
        runner_up = _least_lane(builder, builder.select(is_index, builder.load(second), leasts))
        winner, runner_up, index = (builder.sext(value, _INT64) for value in (winner, runner_up, index))
        chunk_shift = builder.load(builder.gep(shift_array.data, [builder.udiv(index, size)]))
        where = builder.add(builder.add(arguments[1], chunk_shift), builder.urem(index, size))
        return context.make_tuple(builder, signature.return_type, [where, winner, runner_up])

    return types.UniTuple(types.int64, 3)(duals, types.int64, shift, costs), generate
