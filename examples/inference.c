/* inference.c FILE: a network from a file, served inside a program: one request, timed; a thousand, many at once; what came of
 * them. FILE is an ONNX model, a run of dtrain, a Keras network: whatever has one in it.
 *
 *     cc inference.c $(pkg-config --cflags --libs dtrain) -o inference && ./inference resnet50.onnx */
#include <dtrain.h>
#include <stdio.h>
#include <stdlib.h>

enum { REQUESTS = 1000, AT_ONCE = 64, INPUTS = 8 };

/* Ends the program with the cause when a call fails. */
static void check(dt_status status) {
    if (status == DT_OK) return;
    fprintf(stderr, "inference: %s\n", dt_error_text());
    exit(1);
}

/* An array of zeros for each input, one row; dimensions that the file leaves open are 16. */
static void make_inputs(dt_service *service, dt_served *served, int n, dt_array *in) {
    for (int i = 0; i < n; i++) {
        dt_served_value v;
        check(dt_served_input(served, i, &v));
        in[i].dtype = v.dtype, in[i].shape.ndim = v.ndim;
        int64_t bytes = 8; /* no element is larger */
        for (int d = 0; d < v.ndim; d++) {
            in[i].shape.dim[d] = v.dim[d] >= 0 ? v.dim[d] : d == 0 ? 1 : 16;
            bytes *= in[i].shape.dim[d];
        }
        check(dt_service_buffer(service, bytes, &in[i].data));
    }
}

static void one(dt_served *served, const dt_array *in, int n_output) {
    dt_request *request;
    dt_request_timing t;
    check(dt_submit(served, in, (dt_submit_options){0}, &request));
    check(dt_request_wait(request, 10000));
    check(dt_request_times(request, &t));
    printf("one request: %.3f ms waiting, %.3f ms computing\n", 1e3 * t.queue_s, 1e3 * t.compute_s);
    for (int i = 0; i < n_output; i++) {
        dt_array y;
        check(dt_request_output(request, i, &y));
        printf("output %d: %lld bytes\n", i, (long long)y.bytes);
    }
    dt_request_drop(request);
}

/* AT_ONCE requests are on their way at any time. */
static void many(dt_served *served, const dt_array *in) {
    dt_request *request[AT_ONCE] = {NULL};
    for (int i = 0; i < REQUESTS + AT_ONCE; i++) {
        dt_request **slot = &request[i % AT_ONCE];
        if (*slot) check(dt_request_wait(*slot, -1));
        dt_request_drop(*slot);
        *slot = NULL;
        if (i < REQUESTS) check(dt_submit(served, in, (dt_submit_options){0}, slot));
    }
}

static void print_stats(const dt_service_counts *s, const dt_service_usage *r) {
    printf("%lld requests: %lld succeeded, %lld failed, in %lld runs of %.1f rows\n", (long long)s->accepted,
           (long long)s->succeeded, (long long)s->failed, (long long)s->runs,
           (double)s->rows / (double)s->runs);
    printf("latency: %.3f ms on average, half below %.3f, 99 %% below %.3f, longest %.3f\n",
           1e3 * s->latency_avg_s, 1e3 * s->latency_p50_s, 1e3 * s->latency_p99_s, 1e3 * s->latency_max_s);
    printf("memory: %.1f MiB, of it weights and programs %.1f MiB\n", (double)r->rss_bytes / 1048576,
           (double)r->network_bytes / 1048576);
}

int main(int argc, char **argv) {
    dt_run *run;
    dt_service *service;
    dt_served *served;
    dt_served_info info;
    dt_service_counts stats;
    dt_service_usage usage;
    dt_array in[INPUTS] = {{DT_DTYPE_F32}};
    if (argc != 2) {
        fprintf(stderr, "usage: inference FILE\n");
        return 1;
    }
    check(dt_run_open((dt_run_options){.device = DT_DEVICE_AUTO}, &run));
    check(dt_service_open(run, (dt_service_options){0}, &service));
    check(dt_service_load(service, argv[1], (dt_served_options){0}, &served));
    check(dt_served_get_info(served, &info));
    printf("%s: %s, batches of up to %lld\n", info.name, info.format, (long long)info.max_batch);
    if (info.n_input > INPUTS) return 1;
    make_inputs(service, served, info.n_input, in);
    one(served, in, info.n_output);
    many(served, in);
    check(dt_served_stats(served, &stats));
    check(dt_service_resources(service, &usage));
    print_stats(&stats, &usage);
    dt_served_drop(served);
    dt_service_close(service);
    dt_run_close(run);
    return stats.succeeded == REQUESTS + 1 ? 0 : 1;
}
