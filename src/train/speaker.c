#include "speaker.h"

#include "model/task.h"

dt_status dt_speaker_open(const dt_config *c, dt_engine *e, const dt_dataset_info *data,
                          const dt_generator_options *g, dt_speaker *out) {
    dt_graph *forward;
    dt_generator_options own = *g;
    *out = (dt_speaker){.decoder = NULL};
    DT_TRY(dt_engine_forward_graph(e, NULL, data, false, &forward));
    const dt_decoding_options o = {.store = dt_engine_program(e, true)->store,
                                   .forward = forward,
                                   .tokens = "tokens",
                                   .output = dt_task_of(&c->model)->output,
                                   .rows = g->rows,
                                   .fuse = c->train.fusion != DT_FUSION_OFF,
                                   .capture = c->run.capture == DT_CAPTURE_STEP};
    dt_status st = dt_decoding_create(&o, &out->decoder);
    dt_graph_destroy(forward);
    own.decoder = out->decoder;
    if (st == DT_OK) st = dt_generator_new(&own, &out->generator);
    if (st != DT_OK) dt_speaker_close(out);
    return st;
}

void dt_speaker_close(dt_speaker *s) {
    dt_generator_free(s->generator);
    dt_decoding_destroy(s->decoder);
    *s = (dt_speaker){.decoder = NULL};
}
