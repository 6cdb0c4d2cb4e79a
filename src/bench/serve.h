/* What the files of bench serve share: the load, what a server made of it, the server. */
#ifndef VLY_BENCH_SERVE_H
#define VLY_BENCH_SERVE_H

#include "bench/bench.h"
#include "bench/http_client.h"

#include <sys/types.h>

typedef struct {
    uint32_t min, max;
} vly_range;

enum { VLY_N_PRIORITIES = 3 }; /* low, normal, high */

typedef struct {
    /* The server: an existing one, or one that is started for the models below. */
    const char *socket, *tcp, *api_key_file;
    const char *target, *draft, *device, *arch;
    char synthetic[2][VLY_BENCH_NAME_BYTES]; /* as in vly_bench_options */
    char **server_options;                   /* n_server_options words */
    int n_server_options;

    vly_ids clients; /* loads of so many at a time, each with its next request after an answer; */
    vly_reals rates; /* and loads of so many requests a second, whatever is answered */
    uint32_t n_requests;                /* of a load; 0: by the number of clients */
    vly_range prompt, output;           /* tokens */
    uint32_t prefix_tokens;             /* of the prompts that share them */
    float prefix_percent;               /* of requests have such a prompt */
    uint32_t weights[VLY_N_PRIORITIES]; /* of requests, by priority */
    uint32_t long_prompt; /* tokens of the prompts that another client has read all the time */
    const char *text;     /* a file that prompts are cut from; NULL: random tokens */
    const char *fields;   /* JSON object: further fields of requests */
    float temperature, timeout_s;
    const char *csv, *json;
} vly_serve_bench;

/* ---- The server ---- */

/* A server that was started. */
typedef struct {
    pid_t pid; /* 0: none */
    char folder[512], socket[600], log[600];
} vly_bench_server;

/* Starts this program's server for the models of `o`, with room for `n_parallel` requests of
 * `n_ctx` tokens, and waits until it is ready. Stop it in any case. VLY_E_IO (with the end of its
 * log, where it ended), VLY_E_CANCELLED (interrupted). */
int vly_bench_server_start(const vly_serve_bench *o, uint32_t n_parallel, uint32_t n_ctx,
                           vly_bench_server *out, vly_error *err);
void vly_bench_server_stop(vly_bench_server *server);

/* ---- Loads ---- */

/* What prompts are made of, and to whom they go. */
typedef struct {
    const vly_serve_bench *options;
    uv_loop_t *loop;
    vly_http_client *client;
    vly_text fields; /* of all requests: ,"name":value... */
    vly_ids text;    /* tokens that prompts are cut from; none: random ones below */
    uint32_t n_vocab;
    uint64_t n_prompts; /* made so far, so that no two are equal */
    char device[256], model[256], draft[256];
} vly_load_source;

/* Asks the server what it has, and tokenizes the text. Deinit in any case. */
int vly_load_source_init(vly_load_source *source, const vly_serve_bench *o, uv_loop_t *loop,
                         vly_http_client *client, vly_error *err);
void vly_load_source_deinit(vly_load_source *source);

/* One load: `n_clients`, or where that is 0 `rate`. */
typedef struct {
    uint32_t n_clients;
    double rate;
    uint32_t n_requests;
    vly_range prompt, output;
    uint32_t long_prompt; /* 0: nobody reads one meanwhile */
} vly_load;

/* A request and its answer. Times: 0 where it did not come to that. */
typedef struct {
    uint64_t due_ns, first_ns, last_ns, end_ns; /* to be sent; first and last tokens; all of it */
    uint32_t n_prompt, n_cached, n_tokens;      /* as the server counts them */
    int priority;                               /* -1, 0, 1 */
    bool ok;
} vly_load_sample;

/* Values in ascending order. */
typedef struct {
    double *data;
    size_t n, cap;
} vly_load_values;

enum { VLY_MAX_FAILURES = 16 };

/* What the server tells of its work; NAN where it does not. */
typedef struct {
    double serve_s, cpu_s; /* to write and send answers; of its loop's thread in all */
    double step_s, steps, tokens, drafted, accepted;
} vly_server_counters;

typedef struct {
    vly_load load;
    vly_load_sample *samples; /* [load.n_requests] */
    vly_load_values gaps_ms;  /* between the chunks of an answer, ascending */
    vly_load_values long_ms;  /* to read the long prompts, ascending */
    uint64_t start_ns, end_ns;
    struct {
        char what[192];
        uint32_t n;
    } failures[VLY_MAX_FAILURES]; /* the last one: all that found no room */
    uint32_t n_failures;
    vly_server_counters counters; /* over the load */
} vly_load_result;

/* Runs a load to its end. Requests that fail are counted; what ends the load is an error: no
 * memory, an interrupt (VLY_E_CANCELLED). Deinit in any case. */
int vly_load_run(vly_load_source *source, const vly_load *load, vly_load_result *out,
                 vly_error *err);
void vly_load_result_deinit(vly_load_result *result);

/* ---- The report ---- */

/* `alone_ms`: the time to read a long prompt while nothing else is done; NAN where none was. */
void vly_serve_report(const vly_load_source *source, const vly_load_result *results, size_t n,
                      double alone_ms, vly_report *report);

#endif
