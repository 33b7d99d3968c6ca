/* Reverse-mode differentiation of a graph, and the parameter axis that follows from it. */
#ifndef DT_CORE_AUTODIFF_H
#define DT_CORE_AUTODIFF_H

#include "core/graph.h"

/* Appends the backward nodes of the losses to a training graph. Afterwards each PARAM that the loss depends on
 * has one GRAD value with grad_of set; a PARAM without influence on the loss is an error that names it. */
dt_status dt_autodiff(dt_graph *g);

#endif
