/* Loading: what is told of it, how it is stopped, and what is warm when it is over. */
#include "engine/inside.h"
#include "volley.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

typedef struct {
    int n_calls, stop_at; /* the call that ends it; -1: none */
    uint64_t done, total;
} watcher;

static int watch(void *arg, uint64_t done, uint64_t total)
{
    watcher *w = arg;
    assert_true(done >= w->done && done <= total && total >= w->total);
    w->done = done;
    w->total = total;
    return w->n_calls++ == w->stop_at;
}

static int load(watcher *w, bool warm_up, vly_engine **engine, vly_error *err)
{
    vly_engine_options options = {.target = "models/stories15M-q8_0.gguf",
                                  .draft = "models/smol-stories-11M-q8_0.gguf",
                                  .n_parallel = 2,
                                  .n_queued = 4,
                                  .warm_up = warm_up,
                                  .progress = watch,
                                  .progress_arg = w};
    *engine = NULL;
    return vly_engine_create(&options, engine, err);
}

static void loading_can_be_stopped_at_any_time(void **state)
{
    (void)state;
    vly_engine *engine;
    vly_error err;
    watcher w = {.stop_at = -1};
    assert_int_equal(load(&w, false, &engine, &err), 0);
    vly_engine_destroy(engine);
    /* Padding between weights is not counted as it goes. */
    assert_true(w.total > 1 << 20 && (double)w.done > 0.99 * (double)w.total);
    int n_calls = w.n_calls, n_stops = 0;
    for (int at = 0; at <= n_calls; at += at < 5 || at > n_calls - 8 ? 1 : 7) {
        w = (watcher){.stop_at = at};
        err.message[0] = '\0';
        assert_int_equal(load(&w, true, &engine, &err), VLY_E_CANCELLED);
        assert_null(engine);
        assert_non_null(strstr(err.message, "loading was stopped"));
        assert_int_equal(w.n_calls, at + 1);
        n_stops += w.done == w.total && w.total > 0;
    }
    assert_true(n_stops >= 1); /* the last one while warming up */
}

/* ---- warm-up ---- */

static void wake(uv_timer_t *timer)
{
    (void)timer;
}

/* Runs the loop, which belongs to the engine, until all is warm. */
static void finish_warm_up(vly_engine *engine)
{
    uv_timer_t timer;
    uv_timer_init(vly_engine_loop(engine), &timer);
    uv_timer_start(&timer, wake, 1, 1); /* keeps it going */
    while (!vly_engine_is_warm(engine)) uv_run(vly_engine_loop(engine), UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(vly_engine_loop(engine), UV_RUN_NOWAIT);
}

static int count_passes(vly_model *model)
{
    int n = 0;
    for (int pass = 0; pass < VLY_N_PASSES; pass++) {
        uint32_t most = pass == VLY_PASS_PROMPT ? VLY_MAX_CHUNK : VLY_MAX_BATCH;
        for (uint32_t i = 1, size; i <= most; i = size + 1) {
            size = vly_model_bucket(pass, i);
            n += vly_model_has_pass(model, pass, size);
        }
    }
    return n;
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err)
{
    (void)stats, (void)text, (void)len, (void)err;
    assert_int_equal(finish, VLY_FINISH_LENGTH);
    ++*(int *)arg;
}

static void a_warm_engine_records_nothing_more(void **state)
{
    (void)state;
    static char prompt[200];
    vly_engine *engine;
    vly_sequence *sequence;
    vly_error err;
    watcher w = {.stop_at = -1};
    int n_finished = 0;
    assert_int_equal(load(&w, true, &engine, &err), 0);
    finish_warm_up(engine);
    int target = count_passes(vly_engine_target(engine)),
        draft = count_passes(vly_engine_draft(engine));
    assert_true(target > 30 && draft > 20);
    memset(prompt, 'a', sizeof prompt);
    for (int i = 0; i < 8; i++) {
        /* Any number of drafted tokens, any way, short prompts beside long ones. */
        vly_request request = {.prompt = prompt,
                               .prompt_len = i % 3 ? 8 : sizeof prompt,
                               .max_tokens = 20,
                               .ignore_end = true,
                               .logprobs = i == 3,
                               .sampling = vly_sampling_default(),
                               .draft_method = i % 2 ? VLY_DRAFT_MODEL : VLY_DRAFT_AUTO,
                               .draft_max = (uint32_t)(2 * i),
                               .on_finish = on_finish,
                               .arg = &n_finished};
        for (size_t k = 0; k < sizeof prompt; k += 5)
            prompt[k] = (char)('a' + (k + (size_t)i) % 26);
        request.sampling.presence_penalty = i == 5;
        assert_int_equal(vly_engine_start(engine, &request, &sequence, NULL, NULL, &err), 0);
        if (i % 2) assert_int_equal(vly_engine_run(engine, &err), 0);
    }
    assert_int_equal(n_finished, 8);
    assert_int_equal(count_passes(vly_engine_target(engine)), target);
    assert_int_equal(count_passes(vly_engine_draft(engine)), draft);
    vly_engine_destroy(engine);
}

static void append(void *arg, const char *text, size_t len)
{
    size_t n = strlen(arg);
    snprintf((char *)arg + n, 256 - n, "%.*s", (int)len, text);
}

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    (void)ids, (void)logprobs, (void)n;
    append(arg, text, len);
}

static void on_text_end(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                        size_t len, const vly_error *err)
{
    (void)finish, (void)stats, (void)err;
    append(arg, text, len);
}

/* Whether all, some or none of the passes are warm: the text is the same, and an engine may be
 * destroyed at any time. */
static void requests_need_not_wait_for_the_warm_up(void **state)
{
    (void)state;
    char text[3][256] = {""};
    for (int i = 0; i < 3; i++) {
        vly_engine *engine;
        vly_sequence *sequence;
        vly_error err;
        watcher w = {.stop_at = -1};
        vly_request request = {.prompt = "Once upon a time",
                               .prompt_len = 16,
                               .max_tokens = 24,
                               .sampling = vly_sampling_default(),
                               .draft_max = 4,
                               .draft_method = VLY_DRAFT_MODEL,
                               .on_tokens = on_tokens,
                               .on_finish = on_text_end,
                               .arg = text[i]};
        assert_int_equal(load(&w, i > 0, &engine, &err), 0);
        if (i == 2) finish_warm_up(engine);
        if (i == 0) assert_true(vly_engine_is_warm(engine)); /* nothing was asked for */
        assert_int_equal(vly_engine_start(engine, &request, &sequence, NULL, NULL, &err), 0);
        assert_int_equal(vly_engine_run(engine, &err), 0);
        vly_engine_destroy(engine);
    }
    assert_true(strlen(text[0]) > 20);
    assert_string_equal(text[0], text[1]);
    assert_string_equal(text[0], text[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_can_be_stopped_at_any_time),
        cmocka_unit_test(a_warm_engine_records_nothing_more),
        cmocka_unit_test(requests_need_not_wait_for_the_warm_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
