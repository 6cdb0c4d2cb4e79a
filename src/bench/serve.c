/* volley bench serve: clients of a server, and what they see of it. */
#include "bench/serve.h"

#include "cli/cli.h"
#include "cli/option_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

#define MAX_CLIENTS 4096
#define MAX_RATE    1e5
#define MAX_TOKENS  (1u << 20)

static int parse_range(const vly_option_row *row, const char *text, void *o)
{
    vly_range *range = vly_option_field(row, o);
    char word[VLY_OPTION_WORD_BYTES];
    uint64_t value = 0;
    for (int i = 0; text; i++) {
        if (vly_option_word(&text, ':', word) || i == 2 ||
            vly_cli_parse_u64(word, i ? range->min : 1, MAX_TOKENS, &value))
            return -1;
        *(i ? &range->max : &range->min) = (uint32_t)value;
        range->max = (uint32_t)value;
    }
    return 0;
}

static int parse_weights(const vly_option_row *row, const char *text, void *o)
{
    uint32_t *weights = vly_option_field(row, o);
    char word[VLY_OPTION_WORD_BYTES];
    uint64_t value, all = 0;
    int n = 0;
    for (; text; n++) {
        if (vly_option_word(&text, ',', word) || n == VLY_N_PRIORITIES ||
            vly_cli_parse_u64(word, 0, 1000, &value))
            return -1;
        weights[n] = (uint32_t)value;
        all += value;
    }
    return n == VLY_N_PRIORITIES && all > 0 ? 0 : -1;
}

static const vly_option_type range_type = {
    .parse = parse_range, .expected = "a number of tokens from 1 to 1048576, or MIN:MAX"};
static const vly_option_type weights_type = {
    .parse = parse_weights, .expected = "three whole numbers with commas between, not all 0"};
/* ---- the options ---- */

#define AT(field) offsetof(vly_serve_bench, field)
#define TEXT      &vly_option_text
#define COUNT     &vly_option_count
#define REAL      &vly_option_real

static const vly_option_row rows[] = {
    {1, 0, "socket", NULL, "PATH", TEXT, AT(socket), 0, 0,
     "measure the server at this Unix socket, and start none"},
    {1, 0, "tcp", NULL, "[ADDRESS:]PORT", TEXT, AT(tcp), 0, 0,
     "the same at this address; any server of OpenAI's API"},
    {1, 0, "api-key-file", NULL, "FILE", TEXT, AT(api_key_file), 0, 0,
     "a key for that server, in the first line of FILE"},
    {1, 'm', "model", NULL, "TARGET", TEXT, AT(target), 0, 0,
     "the server's target, a file or a name (that of the shipped pair)"},
    {1, 'd', "draft", NULL, "DRAFT", TEXT, AT(draft), 0, 0,
     "its draft, or 'none' (that of the shipped pair; none where -m is given)"},
    {1, 0, "synthetic", NULL, "SHAPE:FORMAT", &vly_bench_synthetic_type, AT(synthetic[0]), 0, 0,
     "in the target's place random weights of a real shape, like mistral-7b:q4_k_m; a wrong name "
     "lists those there are"},
    {1, 0, "synthetic-draft", NULL, "SHAPE:FORMAT", &vly_bench_synthetic_type, AT(synthetic[1]), 0,
     0, "the same for the draft"},
    {1, 0, "device", NULL, "D", TEXT, AT(device), 0, 0, VLY_HELP_DEVICE},
    {1, 0, "arch", NULL, "FILE", TEXT, AT(arch), 0, 0, VLY_HELP_ARCH},
    {1, 0, "clients", NULL, "N,...", &vly_bench_list_type, AT(clients), 1, MAX_CLIENTS,
     "loads of N clients, each of which sends its next request when it has its answer (1,4,16 "
     "unless --rate is given)"},
    {1, 0, "rate", NULL, "R,...", &vly_bench_reals_type, AT(rates), 1e-3, MAX_RATE,
     "loads of R requests a second that come by chance (Poisson), whatever is answered"},
    {1, 'n', "requests", NULL, "N", COUNT, AT(n_requests), 0, 1e6,
     "requests of a load; 0: 4 for each client, at least 8, and 32 for a rate"},
    {1, 0, "prompt-tokens", NULL, "N|MIN:MAX", &range_type, AT(prompt), 0, 0,
     "tokens of a prompt (64)"},
    {1, 0, "output-tokens", NULL, "N|MIN:MAX", &range_type, AT(output), 0, 0,
     "tokens of an answer (64)"},
    {1, 0, "prefix-tokens", NULL, "N", COUNT, AT(prefix_tokens), 0, MAX_TOKENS,
     "tokens at the beginning that prompts have in common"},
    {1, 0, "prefix-percent", NULL, "P", REAL, AT(prefix_percent), 0, 100,
     "requests that have such a prompt, in percent"},
    {1, 0, "priorities", NULL, "LOW,NORMAL,HIGH", &weights_type, AT(weights), 0, 0,
     "how often requests have which priority (0,1,0)"},
    {1, 0, "long-prompt", NULL, "N", COUNT, AT(long_prompt), 0, MAX_TOKENS,
     "all the while one more client has prompts of N tokens read; 0: none"},
    {1, 0, "text", NULL, "FILE", TEXT, AT(text), 0, 0,
     "cut prompts from this text (random tokens)"},
    {1, 0, "temp", NULL, "T", REAL, AT(temperature), 0, 2, "temperature of requests"},
    {1, 0, "fields", NULL, "JSON", TEXT, AT(fields), 0, 0,
     "an object of further fields of requests, like '{\"draft_max\":0}'"},
    {1, 0, "timeout", NULL, "S", REAL, AT(timeout_s), 0.1, 1e6,
     "seconds after which a request has failed"},
    {1, 0, "csv", NULL, "FILE", TEXT, AT(csv), 0, 0,
     "write CSV; to '-', standard output, in place of the tables"},
    {1, 0, "json", NULL, "FILE", TEXT, AT(json), 0, 0, "the same as JSON"},
    {1, 'h', "help", NULL, NULL, &vly_option_help, 0, 0, 0, "show this help"},
};

static const char intro[] =
    "usage: volley bench serve [OPTION...] [-- SERVER-OPTION...]\n\n"
    "Measures a server as its clients see it: throughput, the time to the first token\n"
    "and between tokens. Starts 'volley serve' on a socket of its own, with options\n"
    "behind '--', or measures a server that runs. Requests stream; what they ask for\n"
    "depends on their number alone.\n\n";

static int set_defaults(vly_serve_bench *o, vly_error *err)
{
    static const uint32_t clients[] = {1, 4, 16};
    if (o->clients.len + o->rates.len > 0) return 0;
    if (vly_ids_append(&o->clients, clients, sizeof clients / sizeof *clients) == 0) return 0;
    return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for the loads");
}

/* Splits off the server's words. */
static int parse(int argc, char **argv, vly_serve_bench *o)
{
    static char name[] = "bench serve";
    const vly_serve_bench default_values = *o;
    const vly_option_table table = {
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .command = 1,
        .intro = intro,
        .outro = "\nCtrl-C or SIGTERM ends it, and tells of the loads until then.\n\n"
                 "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n",
        .default_values = &default_values};
    int n = 1;
    while (n < argc && strcmp(argv[n], "--") != 0) n++;
    o->server_options = argv + n + 1;
    o->n_server_options = n < argc ? argc - n - 1 : 0;
    argv[0] = name;
    int status = vly_option_table_parse(&table, n, argv, o);
    if (!status) status = vly_bench_choose_model(name, 'm', &o->target, o->synthetic[0]);
    if (!status) status = vly_bench_choose_model(name, 'd', &o->draft, o->synthetic[1]);
    if (status) return status;
    if (o->socket && o->tcp)
        return vly_cli_usage_error(name, "expected one of --socket and --tcp, got both");
    if ((o->socket || o->tcp) && (o->target || o->draft || o->n_server_options))
        return vly_cli_usage_error(name, "models and server options are for a server that is "
                                         "started, which --socket and --tcp prevent");
    return 0;
}

/* ---- measuring ---- */

typedef struct {
    const vly_serve_bench *options;
    vly_bench_server server;
    uv_loop_t loop;
    bool loop_ready;
    vly_http_client *client;
    vly_load_source source;
    vly_load_result *results;
    size_t n_results;
} bench;

/* What the server has to have room for. */
static int start_server(bench *b, vly_error *err)
{
    const vly_serve_bench *o = b->options;
    uint32_t n_parallel = o->rates.len ? 16 : 1, n_ctx = o->prompt.max + o->output.max;
    for (size_t i = 0; i < o->clients.len; i++)
        if (o->clients.data[i] > n_parallel) n_parallel = o->clients.data[i];
    n_parallel += o->long_prompt > 0;
    if (n_parallel > VLY_MAX_PARALLEL) n_parallel = VLY_MAX_PARALLEL;
    if (n_ctx < o->long_prompt + 1) n_ctx = o->long_prompt + 1;
    return vly_bench_server_start(o, n_parallel, n_ctx, &b->server, err);
}

/* The first line of the file of keys, to `key` [n]. */
static int read_key(const char *path, char *key, size_t n, vly_error *err)
{
    vly_text text = {0};
    int rc = vly_cli_read_text(path, &text, err);
    if (rc == 0) {
        size_t len = strcspn(text.data ? text.data : "", "\r\n");
        if (len == 0 || len >= n)
            rc = vly_fail(err, VLY_E_INVALID, "%s: expected a key in the first line", path);
        else
            snprintf(key, n, "%.*s", (int)len, text.data);
    }
    vly_text_free(&text);
    return rc;
}

static int connect_to_server(bench *b, vly_error *err)
{
    const vly_serve_bench *o = b->options;
    const char *socket = o->socket || o->tcp ? o->socket : b->server.socket;
    char key[256] = "";
    int rc = o->api_key_file ? read_key(o->api_key_file, key, sizeof key, err) : 0;
    if (rc) return rc;
    int uv = uv_loop_init(&b->loop);
    if (uv) return vly_fail(err, VLY_E_IO, "event loop: %s", uv_strerror(uv));
    b->loop_ready = true;
    rc = vly_http_client_create(&b->loop, socket, o->tcp, key[0] ? key : NULL, &b->client, err);
    return rc ? rc : vly_load_source_init(&b->source, o, &b->loop, b->client, err);
}

static uint32_t default_requests(uint32_t n_clients)
{
    return n_clients == 0 ? 32 : n_clients < 2 ? 8 : 4 * n_clients;
}

/* Reads two long prompts while nothing else is done; the time of one. */
static int measure_long(bench *b, double *ms, vly_error *err)
{
    const uint32_t tokens = b->options->long_prompt;
    vly_load load = {.n_clients = 1, .n_requests = 2, .prompt = {tokens, tokens}, .output = {1, 1}};
    vly_load_result r;
    *ms = NAN;
    if (tokens == 0) return 0;
    int rc = vly_load_run(&b->source, &load, &r, err);
    double sum = 0;
    for (int i = 0; rc == 0 && i < 2; i++) {
        if (!r.samples[i].ok)
            rc = vly_fail(err, VLY_E_IO, "a prompt of %u tokens failed: %s", tokens,
                          r.failures[0].what);
        sum += (double)(r.samples[i].first_ns - r.samples[i].due_ns) * 1e-6;
    }
    vly_load_result_deinit(&r);
    if (rc == 0) *ms = sum / 2;
    return rc;
}

static int measure_load(bench *b, uint32_t n_clients, double rate, vly_error *err)
{
    const vly_serve_bench *o = b->options;
    vly_load load = {.n_clients = n_clients,
                     .rate = rate,
                     .n_requests = o->n_requests ? o->n_requests : default_requests(n_clients),
                     .prompt = o->prompt,
                     .output = o->output,
                     .long_prompt = o->long_prompt};
    vly_load_result *r = &b->results[b->n_results++];
    int rc = vly_load_run(&b->source, &load, r, err);
    for (uint32_t i = 0; rc == 0 && i < load.n_requests; i++)
        if (r->samples[i].ok) return 0;
    return rc ? rc
              : vly_fail(err, VLY_E_IO, "all %u requests failed: %s", load.n_requests,
                         r->failures[0].what);
}

static int measure(bench *b, vly_report *report, vly_error *err)
{
    const vly_serve_bench *o = b->options;
    double alone_ms;
    b->results = calloc(o->clients.len + o->rates.len, sizeof *b->results);
    if (!b->results) return vly_fail(err, VLY_E_HOST_MEMORY, "no memory for results");
    int rc = o->socket || o->tcp ? 0 : start_server(b, err);
    if (rc == 0) rc = connect_to_server(b, err);
    if (rc == 0) rc = measure_long(b, &alone_ms, err);
    for (size_t i = 0; rc == 0 && i < o->clients.len; i++)
        rc = measure_load(b, o->clients.data[i], 0, err);
    for (size_t i = 0; rc == 0 && i < o->rates.len; i++)
        rc = measure_load(b, 0, o->rates.data[i], err);
    /* What an interrupt cut short tells nothing. */
    size_t n_whole = rc == 0 ? b->n_results : b->n_results ? b->n_results - 1 : 0;
    if (rc == 0 || (rc == VLY_E_CANCELLED && n_whole))
        vly_serve_report(&b->source, b->results, n_whole, alone_ms, report);
    return rc;
}

static void finish(bench *b)
{
    for (size_t i = 0; i < b->n_results; i++) vly_load_result_deinit(&b->results[i]);
    free(b->results);
    vly_load_source_deinit(&b->source);
    vly_http_client_destroy(b->client);
    if (b->loop_ready) {
        uv_run(&b->loop, UV_RUN_DEFAULT);
        uv_loop_close(&b->loop);
    }
    vly_bench_server_stop(&b->server);
}

int vly_bench_serve(int argc, char **argv)
{
    vly_serve_bench o = {
        .prompt = {64, 64}, .output = {64, 64}, .weights = {0, 1, 0}, .timeout_s = 600};
    vly_error err;
    int status = parse(argc, argv, &o);
    if (status == 0) {
        bench b = {.options = &o};
        vly_report *report = vly_report_create("serve");
        int rc = report ? set_defaults(&o, &err)
                        : vly_fail(&err, VLY_E_HOST_MEMORY, "no memory for a report");
        if (rc == 0) rc = vly_report_check_path(o.csv, &err);
        if (rc == 0) rc = vly_report_check_path(o.json, &err);
        vly_bench_catch_interrupt();
        if (rc == 0) rc = measure(&b, report, &err);
        finish(&b);
        status = vly_bench_end(rc, report, o.csv, o.json, &err);
        vly_report_destroy(report);
    }
    vly_ids_free(&o.clients);
    return status < 0 ? 0 : status;
}
