/* Nothing that an engine is refused, memory by the host or anything by the device, leaves it half
 * made: each place that asks is refused once while two models are loaded and texts are written. The
 * linker leads the calls of the library's objects through here (the Makefile lists them). */
#include "base/log.h"
#include "kv/kv.h"
#include "volley.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_PLACES 512
#define MAX_TOKENS 12

/* ---- Refusing ---- */

/* A place that asks, by its return address: the numbers of its first and last call. */
typedef struct {
    const void *address;
    const char *name;
    long first, last;
} place;

static place places[MAX_PLACES];
static int n_places;
static bool counting;
static long n_calls, refused = -1; /* the call that is refused; -1: none, and places are noted */
static const char *refused_name;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of all above: threads record passes */

static void note(const char *name, const void *address)
{
    int i = 0;
    while (i < n_places && places[i].address != address) i++;
    if (i == MAX_PLACES) abort();
    if (i == n_places) places[n_places++] = (place){address, name, n_calls, 0};
    places[i].last = n_calls;
}

static bool refuses(const char *name, const void *address)
{
    if (!counting) return false;
    pthread_mutex_lock(&mutex);
    if (refused < 0) note(name, address);
    bool now = n_calls++ == refused;
    if (now) refused_name = name;
    pthread_mutex_unlock(&mutex);
    return now;
}

/* __wrap_NAME refuses, as `failure`, or goes on to what the library would have called. */
#define REFUSED(type, name, failure, parameters, arguments)                                        \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return refuses(#name, __builtin_return_address(0)) ? failure : __real_##name arguments;    \
    }

REFUSED(void *, malloc, NULL, (size_t n), (n))
REFUSED(void *, calloc, NULL, (size_t n, size_t size), (n, size))
REFUSED(void *, realloc, NULL, (void *p, size_t n), (p, n))
REFUSED(char *, strdup, NULL, (const char *text), (text))
REFUSED(int, uv_async_init, -12, (void *loop, void *handle, void *then), (loop, handle, then))
REFUSED(int, pthread_create, 11, (void *thread, void *how, void *run, void *arg),
        (thread, how, run, arg))
/* Of Vulkan: handles and structures are only passed on. */
#define NO_HOST_MEMORY   (-1)
#define NO_DEVICE_MEMORY (-2)
#define CREATES(name, failure)                                                                     \
    REFUSED(int, name, failure, (void *device, void *info, void *callbacks, void *out),            \
            (device, info, callbacks, out))
CREATES(vkAllocateMemory, NO_DEVICE_MEMORY)
CREATES(vkCreateBuffer, NO_HOST_MEMORY)
CREATES(vkCreateBufferView, NO_HOST_MEMORY)
CREATES(vkCreateCommandPool, NO_HOST_MEMORY)
CREATES(vkCreateDescriptorPool, NO_HOST_MEMORY)
CREATES(vkCreateDescriptorSetLayout, NO_HOST_MEMORY)
CREATES(vkCreateDevice, NO_HOST_MEMORY)
CREATES(vkCreatePipelineCache, NO_HOST_MEMORY)
CREATES(vkCreatePipelineLayout, NO_HOST_MEMORY)
CREATES(vkCreateQueryPool, NO_HOST_MEMORY)
CREATES(vkCreateSemaphore, NO_HOST_MEMORY)
CREATES(vkCreateShaderModule, NO_HOST_MEMORY)
REFUSED(int, vkAllocateCommandBuffers, NO_HOST_MEMORY, (void *device, void *info, void *out),
        (device, info, out))
REFUSED(int, vkAllocateDescriptorSets, NO_HOST_MEMORY, (void *device, void *info, void *out),
        (device, info, out))
REFUSED(int, vkBeginCommandBuffer, NO_HOST_MEMORY, (void *buffer, void *info), (buffer, info))
REFUSED(int, vkBindBufferMemory, NO_DEVICE_MEMORY,
        (void *device, void *buffer, void *memory, uint64_t offset),
        (device, buffer, memory, offset))
REFUSED(int, vkCreateComputePipelines, NO_HOST_MEMORY,
        (void *device, uint64_t cache, uint32_t n, void *infos, void *callbacks, void *out),
        (device, cache, n, infos, callbacks, out))
REFUSED(int, vkEndCommandBuffer, NO_DEVICE_MEMORY, (void *buffer), (buffer))
REFUSED(int, vkMapMemory, NO_HOST_MEMORY,
        (void *device, void *memory, uint64_t at, uint64_t n, uint32_t flags, void **out),
        (device, memory, at, n, flags, out))

static bool lost; /* the device takes nothing any more */

int __real_vkQueueSubmit(void *queue, uint32_t n, void *infos, uint64_t fence);
int __wrap_vkQueueSubmit(void *queue, uint32_t n, void *infos, uint64_t fence);
int __wrap_vkQueueSubmit(void *queue, uint32_t n, void *infos, uint64_t fence)
{
    enum { DEVICE_LOST = -4 };
    if (lost) return DEVICE_LOST;
    return refuses("vkQueueSubmit", __builtin_return_address(0))
               ? NO_DEVICE_MEMORY
               : __real_vkQueueSubmit(queue, n, infos, fence);
}

static uint32_t most_tokens = UINT32_MAX; /* for which the caches have pages */

int __real_vly_kv_reserve(vly_kv_seq *seq, uint32_t n_tok, vly_error *err);
int __wrap_vly_kv_reserve(vly_kv_seq *seq, uint32_t n_tok, vly_error *err);
int __wrap_vly_kv_reserve(vly_kv_seq *seq, uint32_t n_tok, vly_error *err)
{
    if (n_tok > most_tokens) return vly_fail(err, VLY_E_BUSY, "all pages are in use");
    return __real_vly_kv_reserve(seq, n_tok, err);
}

/* ---- Texts ---- */

typedef struct {
    uint32_t ids[MAX_TOKENS], n, n_prompt;
    int n_finished;
    vly_finish finish;
    vly_error err;
} text;

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *bytes, size_t len)
{
    (void)logprobs, (void)bytes, (void)len;
    text *t = arg;
    assert_true(t->n + n <= MAX_TOKENS);
    memcpy(t->ids + t->n, ids, n * sizeof *ids);
    t->n += n;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *bytes,
                      size_t len, const vly_error *err)
{
    (void)bytes, (void)len;
    text *t = arg;
    t->n_prompt = stats->prompt_tokens;
    t->n_finished++;
    t->finish = finish;
    if (err) t->err = *err;
}

static const vly_draft_method methods[] = {VLY_DRAFT_MODEL, VLY_DRAFT_AUTO, VLY_DRAFT_TEXT,
                                           VLY_DRAFT_NGRAM};
#define N_TEXTS (sizeof methods / sizeof *methods)

/* The second one is of those whose picks the host makes. */
static vly_request request_of(size_t i, text *t)
{
    static const char *const stop[] = {"no such words"};
    static const vly_logit_bias bias = {5, 1};
    vly_request r = {.prompt = "Once upon a time the dog sat and sat",
                     .sampling = vly_sampling_default(),
                     .max_tokens = MAX_TOKENS,
                     .ignore_end = true,
                     .draft_method = methods[i],
                     .draft_max = 3,
                     .on_tokens = on_tokens,
                     .on_finish = on_finish,
                     .arg = t};
    r.prompt_len = strlen(r.prompt);
    if (i != 1) return r;
    r.sampling.bias = &bias;
    r.sampling.n_bias = 1;
    r.stop = stop;
    r.n_stop = 1;
    r.logprobs = true;
    r.n_top_logprobs = 3;
    return r;
}

static void check_error(const char *what, int rc, const vly_error *err)
{
    if (rc >= 0 || err->code != rc || !err->message[0])
        fail_msg("%s, %s refused: code %d, error %d: %s", what, refused_name, rc, err->code,
                 err->message);
}

/* Writes text i; what the engine was refused by then is an error that says so. */
static int write_text(vly_engine *e, size_t i, text *out)
{
    vly_sequence *sequence;
    vly_error err = {0};
    *out = (text){0};
    vly_request r = request_of(i, out);
    int rc = vly_engine_start(e, &r, &sequence, NULL, NULL, &err);
    if (rc) {
        check_error("a request", rc, &err);
        return rc;
    }
    if (vly_engine_run(e, &err)) fail_msg("%s refused: %s", refused_name, err.message);
    assert_int_equal(out->n_finished, 1);
    if (out->finish != VLY_FINISH_ERROR) return 0;
    check_error("a text", out->err.code, &out->err);
    return out->err.code;
}

static int load(vly_engine **engine, vly_error *err)
{
    const vly_engine_options options = {.target = "tests/data/archs/llama-yarn.gguf",
                                        .draft = "tests/data/archs/qwen2.gguf",
                                        .n_parallel = 2,
                                        .n_queued = 3,
                                        .n_ctx = 128};
    *engine = NULL;
    return vly_engine_create(&options, engine, err);
}

/* Loads and writes all texts, while call `at` is refused. What was refused a first time is there
 * the second time. `expected` gets the texts where nothing is refused, and else has them. */
static void refuse(long at, text *expected)
{
    vly_engine *e;
    vly_error err = {0};
    n_calls = 0;
    refused = at;
    counting = true;
    int rc = load(&e, &err);
    if (rc) {
        counting = false;
        check_error("loading", rc, &err);
        assert_null(e);
        return;
    }
    for (size_t i = 0; i < N_TEXTS; i++) {
        text t;
        if (write_text(e, i, &t)) assert_int_equal(write_text(e, i, &t), 0);
        assert_int_equal(t.finish, VLY_FINISH_LENGTH);
        if (at < 0) expected[i] = t;
        if (t.n != MAX_TOKENS || memcmp(t.ids, expected[i].ids, sizeof t.ids) != 0)
            fail_msg("text %zu is another one after %s was refused", i, refused_name);
    }
    counting = false;
    vly_engine_destroy(e);
}

static void every_place_is_refused_once(void **state)
{
    (void)state;
    text expected[N_TEXTS];
    refuse(-1, expected); /* the driver compiles what it will have compiled below */
    n_places = 0;
    refuse(-1, expected);
    assert_true(n_places > 80);
    /* The last call of a place is in a text, where there is one. */
    for (int i = 0; i < n_places; i++) refuse(places[i].last, expected);
}

/* A sequence that has no page for its next block ends, though nothing is under way that could wake
 * the engine then. */
static void pages_run_out_in_a_text(void **state)
{
    (void)state;
    vly_engine *e;
    vly_error err = {0};
    text t;
    if (load(&e, &err)) fail_msg("%s", err.message);
    assert_int_equal(write_text(e, 0, &t), 0);
    most_tokens = t.n_prompt + MAX_TOKENS / 2;
    assert_int_equal(write_text(e, 3, &t), VLY_E_CONTEXT);
    assert_in_range(t.n, 1, MAX_TOKENS - 1);
    assert_non_null(strstr(t.err.message, "cannot hold a text of"));
    most_tokens = UINT32_MAX;
    assert_int_equal(write_text(e, 3, &t), 0);
    vly_engine_destroy(e);
}

/* Nor do those that wait for their turn, none of which can begin. */
static void all_texts_end_where_the_device_is_lost(void **state)
{
    (void)state;
    vly_engine *e;
    vly_error err = {0};
    text t[5];
    if (load(&e, &err)) fail_msg("%s", err.message);
    lost = true;
    for (int i = 0; i < 5; i++) {
        vly_sequence *sequence;
        t[i] = (text){0};
        vly_request r = request_of(0, &t[i]);
        if (vly_engine_start(e, &r, &sequence, NULL, NULL, &err)) fail_msg("%s", err.message);
    }
    assert_int_equal(vly_engine_run(e, &err), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t[i].n_finished, 1);
        assert_int_equal(t[i].err.code, VLY_E_DEVICE_LOST);
    }
    lost = false;
    vly_engine_destroy(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_run_out_in_a_text),
        cmocka_unit_test(all_texts_end_where_the_device_is_lost),
        cmocka_unit_test(every_place_is_refused_once),
    };
    vly_log_configure(VLY_LOG_ERROR, false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
