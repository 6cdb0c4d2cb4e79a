/* A step of decoding does not allocate, record, log, open a file or read the environment: once
 * passes are warm, texts go on without a call of any of these, alone and beside others, however
 * they are drafted. The linker leads the calls of the library's objects through here (the Makefile
 * lists them); what drivers do for themselves is not counted. */
#include "base/log.h"
#include "engine/inside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_TEXTS 16
#define N_WARM    3  /* blocks of each text before calls are counted, */
#define N_LAST    20 /* and tokens after which they are not any more */

/* ---- Counting ---- */

static bool counting;
static int n_calls, n_counted; /* n_counted: blocks between which calls were counted */
static const char *last_call;

static void count(const char *name)
{
    if (!counting) return;
    n_calls++;
    last_call = name;
}

/* __wrap_NAME counts and goes on to what the library would have called. */
#define COUNTED(type, name, parameters, arguments)                                                 \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        count(#name);                                                                              \
        return __real_##name arguments;                                                            \
    }

COUNTED(void *, malloc, (size_t n), (n))
COUNTED(void *, calloc, (size_t n, size_t size), (n, size))
COUNTED(void *, realloc, (void *p, size_t n), (p, n))
COUNTED(char *, strdup, (const char *text), (text))
COUNTED(char *, getenv, (const char *name), (name))
COUNTED(FILE *, fopen, (const char *path, const char *mode), (path, mode))
/* Of Vulkan: handles and structures are only passed on. */
COUNTED(int, vkAllocateMemory, (void *device, void *info, void *callbacks, void *out),
        (device, info, callbacks, out))
COUNTED(int, vkCreateBuffer, (void *device, void *info, void *callbacks, void *out),
        (device, info, callbacks, out))
COUNTED(int, vkCreateComputePipelines,
        (void *device, uint64_t cache, uint32_t n, void *infos, void *callbacks, void *out),
        (device, cache, n, infos, callbacks, out))
COUNTED(int, vkBeginCommandBuffer, (void *buffer, void *info), (buffer, info))

void __wrap_vly_log(int level, const char *subsystem, const char *format, ...);
void __wrap_vly_log(int level, const char *subsystem, const char *format, ...)
{
    (void)subsystem, (void)format;
    if (vly_log_enabled((vly_log_level)level)) count("vly_log");
}

/* ---- Texts ---- */

typedef struct {
    uint32_t n_blocks, n_tokens;
    vly_finish finish;
    vly_stats stats;
} text;

static vly_engine *engine;
static text texts[MAX_TEXTS];
static uint32_t n_texts, n_tokens;

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *bytes, size_t len)
{
    (void)ids, (void)logprobs, (void)bytes, (void)len;
    text *t = arg;
    t->n_blocks++;
    t->n_tokens += n;
    bool steady = true;
    for (uint32_t i = 0; i < n_texts; i++)
        steady &= texts[i].n_blocks >= N_WARM && texts[i].n_tokens + N_LAST <= n_tokens;
    counting = steady;
    n_counted += steady;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *bytes,
                      size_t len, const vly_error *err)
{
    (void)bytes, (void)len;
    text *t = arg;
    counting = false;
    if (finish == VLY_FINISH_ERROR) print_message("%s\n", err->message);
    t->finish = finish;
    t->stats = *stats;
}

/* Writes `n` texts at once, shorter ones where there are many, and returns how often one of the
 * functions above was called. */
static int calls_of_texts(uint32_t n, const vly_request *request)
{
    static const char *const prompts[] = {"Once upon a time", "The dog ran and ran and ran and ran",
                                          "Tom and Lily", "In the garden"};
    memset(texts, 0, sizeof texts);
    n_texts = n;
    n_tokens = n > 1 ? 50 : 200;
    n_calls = n_counted = 0;
    for (uint32_t i = 0; i < n; i++) {
        vly_request r = *request;
        vly_sequence *sequence;
        vly_error err;
        r.prompt = prompts[i % 4];
        r.prompt_len = strlen(r.prompt);
        r.max_tokens = n_tokens;
        r.ignore_end = true;
        r.sampling.seed = i;
        r.on_tokens = on_tokens;
        r.on_finish = on_finish;
        r.arg = &texts[i];
        if (vly_engine_start(engine, &r, &sequence, NULL, NULL, &err)) fail_msg("%s", err.message);
    }
    vly_error err;
    if (vly_engine_run(engine, &err)) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < n; i++) assert_int_equal(texts[i].finish, VLY_FINISH_LENGTH);
    assert_true(n_counted >= 8);
    return n_calls;
}

static vly_request request_of(vly_draft_method method, uint32_t draft_max)
{
    return (vly_request){
        .sampling = vly_sampling_default(), .draft_method = method, .draft_max = draft_max};
}

static void check_steady(const char *what, uint32_t n, const vly_request *request)
{
    int calls = calls_of_texts(n, request);
    if (calls)
        fail_msg("%s: expected no call while decoding, found %d, %s last", what, calls, last_call);
}

static const struct {
    const char *name;
    vly_draft_method method;
    uint32_t draft_max;
} ways[] = {
    {"plain", VLY_DRAFT_NONE, 0},  {"model", VLY_DRAFT_MODEL, 4},
    {"text", VLY_DRAFT_TEXT, 4},   {"ngram", VLY_DRAFT_NGRAM, 8},
    {"chain", VLY_DRAFT_CHAIN, 4}, {"auto", VLY_DRAFT_AUTO, VLY_MAX_DRAFT},
};

static void every_way_to_draft(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        vly_request request = request_of(ways[i].method, ways[i].draft_max);
        check_steady(ways[i].name, 1, &request);
    }
}

static void sixteen_texts_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        vly_request request = request_of(ways[i].method, ways[i].draft_max);
        check_steady(ways[i].name, MAX_TEXTS, &request);
    }
}

static void blocks_ahead_of_the_host(void **state)
{
    (void)state;
    vly_engine_set_ahead(engine, true);
    uint64_t before = vly_engine_count_ahead(engine);
    for (size_t i = 0; i < 2; i++) {
        vly_request request = request_of(ways[i].method, ways[i].draft_max);
        check_steady(ways[i].name, 1, &request);
    }
    assert_true(vly_engine_count_ahead(engine) - before > 60);
    vly_engine_set_ahead(engine, false);
}

static void what_the_host_picks(void **state)
{
    (void)state;
    const vly_logit_bias bias = {5, 1};
    vly_request request = request_of(VLY_DRAFT_MODEL, 4);
    request.sampling.repeat_penalty = 1.1f;
    request.sampling.penalty_last_n = 64;
    request.sampling.bias = &bias;
    request.sampling.n_bias = 1;
    request.stop = (const char *const[]){"no such words", "nor these"};
    request.n_stop = 2;
    check_steady("penalties", 1, &request);
    request.logprobs = true;
    request.n_top_logprobs = VLY_MAX_TOP_LOGPROBS;
    check_steady("log-probabilities", 4, &request);
}

/* The test sees the calls that there are. */
static void calls_are_counted(void **state)
{
    (void)state;
    n_calls = 0;
    counting = true;
    uint32_t *ids;
    size_t n;
    vly_error err;
    assert_int_equal(vly_engine_tokenize(engine, "Tom", 3, true, false, &ids, &n, &err), 0);
    counting = false;
    free(ids);
    assert_true(n_calls > 0);
}

static int open_engine(void **state)
{
    (void)state;
    const vly_engine_options options = {.target = "models/stories15M-q8_0.gguf",
                                        .draft = "models/smol-stories-11M-q8_0.gguf",
                                        .n_parallel = MAX_TEXTS,
                                        .warm_up = true};
    vly_error err;
    int rc = vly_engine_create(&options, &engine, &err);
    if (rc) print_message("%s\n", err.message);
    return rc;
}

static int close_engine(void **state)
{
    (void)state;
    vly_engine_destroy(engine);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_counted),     cmocka_unit_test(every_way_to_draft),
        cmocka_unit_test(sixteen_texts_at_once), cmocka_unit_test(blocks_ahead_of_the_host),
        cmocka_unit_test(what_the_host_picks),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
