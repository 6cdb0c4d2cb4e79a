/* Loading: what is told of it, how it is stopped, and what is warm when it is over. */
#include "engine/inside.h"
#include "volley.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    int n_calls, stop_at; /* the call that ends it; -1: none */
    int n_whole;          /* calls that told of all */
    uint64_t done, total;
} watcher;

static int watch(void *arg, uint64_t done, uint64_t total)
{
    watcher *w = arg;
    assert_true(done >= w->done && done <= total && total >= w->total);
    w->done = done;
    w->total = total;
    assert_int_equal(w->n_whole, 0); /* it was the last one */
    w->n_whole += total > 0 && done == total;
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
    for (int at = 0; at < n_calls + 20; at += at < 5 || at >= n_calls ? 1 : 7) {
        w = (watcher){.stop_at = at};
        err.message[0] = '\0';
        assert_int_equal(load(&w, true, &engine, &err), VLY_E_CANCELLED);
        assert_null(engine);
        assert_non_null(strstr(err.message, "loading was stopped"));
        assert_int_equal(w.n_calls, at + 1);
        n_stops += w.done < w.total && 5 * w.done >= 4 * w.total && w.total > 0;
    }
    assert_true(n_stops >= 10); /* the last ones while warming up */
}

/* ---- warm-up ---- */

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
    assert_int_equal(w.n_whole, 1); /* what is left of loading then is nothing */
    int target = count_passes(vly_engine_target(engine)),
        draft = count_passes(vly_engine_draft(engine));
    assert_true(target > 30 && draft > 20);
    memset(prompt, 'a', sizeof prompt);
    for (int i = 0; i < 8; i++) {
        /* Any number of drafted tokens, any way, short prompts beside long ones. */
        static const size_t lengths[] = {sizeof prompt, 60, 8};
        vly_request request = {.prompt = prompt,
                               .prompt_len = lengths[i % 3],
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading_can_be_stopped_at_any_time),
        cmocka_unit_test(a_warm_engine_records_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
