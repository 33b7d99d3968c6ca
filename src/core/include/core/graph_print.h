/* Graphs as lines of text, for who compares them: ranks (api/net_meet.c), and a network with the one that a checkpoint
 * was made of. */
#ifndef DT_CORE_GRAPH_PRINT_H
#define DT_CORE_GRAPH_PRINT_H

#include <stdio.h>

#include "core/graph.h"

enum { DT_GRAPH_DIFFERENCE = 1024 };

/* A line for each attribute that the op reads: "<head>stride 2 2". training false: without those that mean nothing
 * outside of it. */
void dt_node_print_attributes(const dt_node *n, bool training, const char *head, FILE *out);

/* What value `of` is of inputs, parameters and states, outside of training: a line for each op on the way and each of
 * its attributes. What stands between ops is counted, its names are no part of the comparison. `prefix`, "" or
 * "# ", begins each line. */
dt_status dt_graph_print_function(const dt_graph *g, dt_vid of, const char *prefix, FILE *out);

/* Whether two such texts are of one function; else what they differ in, for people: "fc1: relu of 3, ...". */
bool dt_graph_same_function(const char *mine, const char *theirs, char why[DT_GRAPH_DIFFERENCE]);

#endif
