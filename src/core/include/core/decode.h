/* From a network that reads a whole text at once to one that reads on: what a place needs of those before it is kept
 * in caches, so that a step costs what its own places cost. docs/architecture.md says more. */
#ifndef DT_CORE_DECODE_H
#define DT_CORE_DECODE_H

#include "core/graph.h"

/* Inputs of a decoding graph beside the tokens, i32. Those that the network has no use for are not there. */
#define DT_DECODE_START "decode/start" /* [rows] places of the row that were read before */
#define DT_DECODE_COUNT "decode/count" /* [rows] how many of this run's places are the row's: 0 to steps */
#define DT_DECODE_PLACE "decode/place" /* [rows, steps] start + 0, 1, ..., for learnt positions */
#define DT_DECODE_LAST  "decode/last"  /* [rows, 1] row * steps + its last place: where steps > 1 */

typedef struct dt_decode_options {
    const char *tokens, *output; /* names of the input [rows, T] and of the output [rows, T, X] */
    int64_t rows, steps;         /* of a run */
    int64_t capacity;            /* places that attention's caches hold */
} dt_decode_options;

/* What limits the length of a text. */
typedef struct dt_decode_facts {
    int64_t positions; /* learnt ones; INT64_MAX: there are none to run out of */
    bool attends;      /* keys and values are kept: no more places than the capacity */
} dt_decode_facts;

/* A graph for evaluation that computes of `g`, one for evaluation too, the output [rows, 1, X] at each row's last place
 * from tokens [rows, steps], and keeps in values of role CACHE what later places will want: of ATTENTION keys and
 * values [rows, capacity, kv_heads D], of RECURRENT states [rows, H]. Graphs of the same g, rows and capacity have the
 * same caches. A row is begun anew with start 0 and its states set to 0 (dt_decode_is_state). DT_ERR_UNSUPPORTED, naming the node: what
 * looks ahead, along the text, or at other fields of the data. g stays as it is. facts may be NULL. */
dt_status dt_decode_graph(const dt_graph *g, const dt_decode_options *o, dt_decode_facts *facts,
                          dt_graph **out);

/* Whether a value of role CACHE is a state, which a new text begins with as 0; keys and values are not. */
bool dt_decode_is_state(const dt_value *v);

#endif
