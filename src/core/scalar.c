/* What the compiler knows of the element-wise functions, out of their lists. */
#include "core/scalar.h"

enum { X = 0, Y = 1 };

#define ROW(NAME, name_, of, scalars, value, gradient)                                                       \
    [DT_UNARY_##NAME] = {.name = #name_, .grad_name = #name_ "_bwd", .param = scalars, .of_y = of},
const dt_unary_row dt_unary_table[DT_UNARY_COUNT] = {DT_UNARY_LIST(ROW)};
#undef ROW

#define ROW(NAME, name_, value, rx, gx, ry, gy)                                                              \
    [DT_BINARY_##NAME] = {.name = #name_, .grad_name = #name_ "_bwd", .reads = {rx, ry}},
const dt_binary_row dt_binary_table[DT_BINARY_COUNT] = {DT_BINARY_LIST(ROW)};
#undef ROW
