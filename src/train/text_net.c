#include "text_net.h"

#include "model/task.h"

/* The batch says nothing here; the context is the checkpoint's, or what the configuration says. */
static void adapt(dt_text_net *n, const dt_config *c, int32_t world) {
    dt_dataset_info *info = &n->trained.facts.info;
    n->c = *c;
    n->c.train.eval_batch = n->c.train.micro_batch = 1;
    n->c.train.global_batch = world;
    for (int32_t i = 0; i < info->n_field && c->data.context > 0; i++)
        if (info->field[i].ndim == 1) info->field[i].dim[0] = c->data.context;
}

static dt_status check_task(const dt_text_net *n, const dt_config *c) {
    const dt_task_row *task = dt_task_of(&c->model);
    if (task->tokens && !task->masked && n->trained.facts.tokenizer) return DT_OK;
    return dt_fail(
        DT_ERR_USAGE,
        "model.task = \"%s\": this is for networks that were trained on text, with the task \"language\"",
        task->name);
}

static dt_status open_engine(dt_text_net *n, dt_comm *mpi) {
    if (!n->borrows) DT_TRY(dt_session_backend(&n->c, mpi, &n->be));
    const dt_engine_options o = {.config = &n->c,
                                 .be = n->be,
                                 .mpi = mpi,
                                 .data = &n->trained.facts.info,
                                 .any_gpu = n->be->info.is_gpu};
    DT_TRY(dt_engine_create(&o, &n->engine));
    return dt_engine_load(n->engine, n->trained.ckpt);
}

dt_status dt_text_net_open(const dt_config *c, dt_comm *mpi, const dt_sink *sink, dt_text_net *out) {
    *out = (dt_text_net){.be = NULL};
    DT_TRY(dt_trained_load(c, mpi, sink, &out->trained));
    dt_status st = dt_trained_find_facts(c, out->trained.ckpt->path, &out->trained);
    if (st == DT_OK) st = check_task(out, c);
    DT_TRY(dt_comm_agree(mpi, st));
    adapt(out, c, mpi->world);
    DT_TRY(dt_comm_agree(mpi, open_engine(out, mpi)));
    return dt_engine_eval_begin(out->engine, out->c.train.ema > 0);
}

static dt_status read_own(const char *path, dt_text_net *n) {
    DT_TRY(dt_ckpt_load_at(path, &n->trained.ckpt));
    const dt_ckpt *k = n->trained.ckpt;
    DT_TRY(dt_config_parse(&n->own, k->path, k->config_text, 0, NULL));
    DT_TRY(dt_ckpt_check_adapters(k, n->own.model.lora.rank));
    if (k->data_text) DT_TRY(dt_data_facts_parse(k->data_text, &n->trained.facts));
    n->trained.has_facts = k->data_text != NULL;
    return dt_trained_find_facts(&n->own, k->path, &n->trained);
}

dt_status dt_text_net_open_at(const char *path, dt_backend *be, dt_text_net *out) {
    *out = (dt_text_net){.be = be, .borrows = true};
    dt_config_init(&out->own);
    DT_TRY(read_own(path, out));
    DT_TRY(check_task(out, &out->own));
    adapt(out, &out->own, 1);
    DT_TRY(open_engine(out, NULL));
    return dt_engine_eval_begin(out->engine, out->c.train.ema > 0);
}

void dt_text_net_close(dt_text_net *n) {
    dt_engine_destroy(n->engine);
    if (n->be && !n->borrows) n->be->destroy(n->be);
    if (n->borrows) dt_config_fini(&n->own);
    dt_trained_free(&n->trained);
    n->engine = NULL;
    n->be = NULL;
}
