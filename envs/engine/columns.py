"""Records laid out field by field, for GPU kernels: what lane i keeps in a field lies beside what lane i + 1 keeps there.

An environment's kernels can't tell such a record from one whose fields are contiguous. The element e of a field at byte
`offset`, of `size` bytes an element, is at offset * num_lanes + (e * num_lanes + i) * size, so that the threads of a warp read
and write neighbouring bytes.
"""

# mypy: disable-error-code="attr-defined, name-defined"
# numba-cuda's modules take many names from elsewhere when they are imported

import operator

import numpy as np
from llvmlite import ir
from numba.cuda import cgutils, models, types
from numba.cuda.cudadecl import registry as declared
from numba.cuda.cudaimpl import registry as implemented
from numba.cuda.extending import core_models, intrinsic
from numba.cuda.np.arrayobj import make_array, populate_array
from numba.cuda.typing.templates import AbstractTemplate, AttributeTemplate, signature


class Lane(types.Type):
    """One lane of records: an array of one, whose only element is itself."""

    def __init__(self, record):
        self.record = record
        super().__init__(f"Lane({record})")


@models.register_model(Lane)
class LaneModel(core_models.StructModel):
    def __init__(self, manager, lane):
        members = [("data", types.CPointer(types.uint8)), ("index", types.intp), ("num_lanes", types.intp)]
        super().__init__(manager, lane, members)


@declared.register_attr
class LaneAttribute(AttributeTemplate):
    key = Lane

    def generic_resolve(self, lane, attr):
        if attr == "shape":
            return types.UniTuple(types.intp, 1)
        kind = lane.record.typeof(attr)
        return types.Array(kind.dtype, kind.ndim, "A") if isinstance(kind, types.NestedArray) else kind


@declared.register_global(operator.getitem)
class LaneItem(AbstractTemplate):
    def generic(self, args, keywords):
        if isinstance(args[0], Lane) and isinstance(args[1], types.Integer):
            return signature(args[0], *args)


@implemented.lower(operator.getitem, Lane, types.Integer)
def get_item(context, builder, sig, args):
    return args[0]


@implemented.lower_getattr_generic(Lane)
def get_attribute(context, builder, lane, value, attr):
    if attr == "shape":
        return cgutils.pack_array(builder, [context.get_constant(types.intp, 1)])
    kind = lane.record.typeof(attr)
    address, num_lanes = place(context, builder, lane, value, attr)
    if not isinstance(kind, types.NestedArray):
        return context.unpack_value(builder, kind, address)
    array = make_array(types.Array(kind.dtype, kind.ndim, "A"))(context, builder)
    strides = [builder.mul(context.get_constant(types.intp, stride), num_lanes) for stride in kind.strides]
    populate_array(
        array,
        data=address,
        shape=cgutils.pack_array(builder, [context.get_constant(types.intp, length) for length in kind.shape]),
        strides=cgutils.pack_array(builder, strides),
        itemsize=context.get_constant(types.intp, item_size(kind)),
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


@implemented.lower_setattr_generic(Lane)
def set_attribute(context, builder, sig, args, attr):
    lane, given = sig.args
    kind = lane.record.typeof(attr)
    address, _ = place(context, builder, lane, args[0], attr)
    context.pack_value(builder, kind, context.cast(builder, args[1], given, kind), address)


def place(context, builder, lane, value, attr):
    """Where the lane's first element of a field is, and the number of lanes."""
    kind = lane.record.typeof(attr)
    own = cgutils.create_struct_proxy(lane)(context, builder, value=value)
    scalar = kind.dtype if isinstance(kind, types.NestedArray) else kind
    before = builder.mul(context.get_constant(types.intp, lane.record.offset(attr)), own.num_lanes)
    inside = builder.mul(context.get_constant(types.intp, item_size(kind)), own.index)
    address = cgutils.pointer_add(builder, own.data, builder.add(before, inside))
    return builder.bitcast(address, ir.PointerType(context.get_data_type(scalar))), own.num_lanes


def item_size(kind):
    """Bytes of an element."""
    return np.dtype(str(kind.dtype if isinstance(kind, types.NestedArray) else kind)).itemsize


def own_columns(record):
    """A function of an array (its bytes, one per lane in its shape) and a lane's number that gives the `Lane`."""

    @intrinsic
    def own(context, array, i):
        def build(context, builder, sig, args):
            bytes_ = make_array(sig.args[0])(context, builder, args[0])
            lane = cgutils.create_struct_proxy(sig.return_type)(context, builder)
            (lane.num_lanes,) = cgutils.unpack_tuple(builder, bytes_.shape, 1)
            lane.data, lane.index = bytes_.data, context.cast(builder, args[1], sig.args[1], types.intp)
            return lane._getvalue()

        return Lane(record)(array, i), build

    return own
