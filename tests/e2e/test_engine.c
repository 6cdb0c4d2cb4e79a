/* The engine through its public interface, with the shipped pair: many sequences at once, each with
 * the text that it has alone. */
#include "engine/engine_internal.h"
#include "engine/inside.h"
#include "tests/support/job.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

/* ---- engines ---- */

static vly_engine *create(vly_engine_options o)
{
    vly_engine *e;
    vly_error err;
    o.target = "models/stories15M-q8_0.gguf";
    o.draft = "models/smol-stories-11M-q8_0.gguf";
    if (vly_engine_create(&o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

#define MANY 18

/* Requests of many kinds: prompts of 4 to 170 tokens, of which some begin alike. */
static void make_many(job *jobs, char prompt[MANY][1024])
{
    static const char *const sentences[] = {
        "Once upon a time, there was a little girl named Lily. ",
        "She loved to play outside in the sunshine with her friends. ",
        "One day, they saw a big red ball in the park and ran to it. ",
        "The ball was stuck in a tree, so they asked a kind bird for help. ",
    };
    static const char *const stop[] = {"happy", "\n\n"};
    static const vly_draft_method methods[] = {VLY_DRAFT_DEFAULT, VLY_DRAFT_NGRAM, VLY_DRAFT_CHAIN};
    for (uint32_t i = 0; i < MANY; i++) {
        prompt[i][0] = '\0';
        for (uint32_t j = 0; j < i % 12; j++)
            strcat(prompt[i], sentences[i % 3 == 2 ? (i + j) % 4 : j % 4]);
        strcat(prompt[i], "Tom and");
        jobs[i] = job_make(prompt[i], 10 + i * 7 % 40);
        vly_request *r = &jobs[i].request;
        r->sampling.seed = 100 + i;
        r->sampling.temperature = i % 4 ? (float)(i % 4) * 0.4f : 0;
        r->sampling.top_k = i % 5 == 4 ? 40 : 0;
        r->sampling.min_p = i % 7 == 6 ? 0.05f : 0;
        if (i % 6 == 5)
            r->sampling.frequency_penalty = 0.5f, r->sampling.penalty_last_n = UINT32_MAX;
        r->draft_method = methods[i % 3];
        r->draft_max = i % 8;
        r->priority = (int)(i % 3) - 1;
        r->logprobs = i % 6 == 4;
        r->ignore_end = i % 2;
        r->stop = stop;
        r->n_stop = i % 5 == 0 ? 2 : 0;
    }
}

static void check_equal(const job *j, const job *alone)
{
    assert_true(j->finished);
    assert_int_equal(j->finish, alone->finish);
    assert_string_equal(j->text, alone->text);
    assert_int_equal(j->n_ids, alone->n_ids);
    assert_memory_equal(j->ids, alone->ids, j->n_ids * sizeof *j->ids);
    if (j->request.logprobs)
        assert_memory_equal(j->logprob, alone->logprob, j->n_ids * sizeof *j->logprob);
    const vly_stats *s = &j->stats;
    assert_int_equal(s->drafted, s->accepted + s->lost_to_pick + s->lost_unmapped + s->lost_split +
                                     s->lost_to_front + s->lost_to_end);
    assert_int_equal(s->generated_tokens, j->n_ids);
}

static job *alone_jobs; /* [MANY], each run by itself without anything from earlier texts */
static char prompts[MANY][1024];

static void run_each_alone(void)
{
    vly_engine *e = create((vly_engine_options){.n_parallel = 1});
    alone_jobs = calloc(MANY, sizeof *alone_jobs);
    make_many(alone_jobs, prompts);
    for (int i = 0; i < MANY; i++) {
        alone_jobs[i].request.no_prefix_reuse = true;
        job_generate(e, &alone_jobs[i]);
        assert_int_equal(alone_jobs[i].stats.n_cached_tokens, 0);
    }
    vly_engine_destroy(e);
}

/* Runs them together, a few starting at each turn of the loop. */
static vly_engine_metrics run_together(vly_engine_options o, bool apart)
{
    o.n_queued = MANY;
    vly_engine *e = create(o);
    if (apart) vly_engine_keep_prompts_apart(e);
    job *jobs = calloc(MANY, sizeof *jobs);
    make_many(jobs, prompts);
    for (int i = 0; i < MANY; i++) {
        job_begin(e, &jobs[i]);
        if (i % 3 == 2) uv_run(vly_engine_loop(e), UV_RUN_ONCE);
    }
    job_run_all(e);
    for (int i = 0; i < MANY; i++) check_equal(&jobs[i], &alone_jobs[i]);
    vly_engine_metrics m;
    vly_engine_get_metrics(e, &m);
    free(jobs);
    vly_engine_destroy(e);
    return m;
}

static void each_has_the_text_that_it_has_alone(void **state)
{
    (void)state;
    run_each_alone();
    vly_engine_metrics m = run_together((vly_engine_options){.n_parallel = 16}, false);
    assert_int_equal(m.preempted, 0);
    assert_true(m.prefix_hit_tokens > 0);
}

/* What was lost is computed again: as a part of the prompt, or by the passes that decode. */
static void page_shortage_changes_no_text(void **state)
{
    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        vly_engine_options o = {.n_parallel = 8, .kv_bytes = 2 << 20};
        vly_engine_metrics m = run_together(o, apart);
        assert_true(m.preempted > 0);
    }
    free(alone_jobs);
}

static vly_engine *engine; /* of most tests: 4 at a time, 4 wait */

static int open_engine(void **state)
{
    (void)state;
    engine = create((vly_engine_options){.n_parallel = 4, .n_queued = 4});
    return 0;
}

static int close_engine(void **state)
{
    (void)state;
    vly_engine_destroy(engine);
    return 0;
}

/* ---- tests ---- */

static void a_repeated_prompt_is_not_computed_again(void **state)
{
    (void)state;
    char prompt[2048] = "";
    for (int i = 0; i < 12; i++) strcat(prompt, "The dog ran after the ball. ");
    job first = job_make(prompt, 20), again = first, other = first;
    first.request.no_prefix_reuse = other.request.no_prefix_reuse = true;
    job_generate(engine, &first);
    job_generate(engine, &again);
    job_generate(engine, &other);
    assert_int_equal(first.stats.n_cached_tokens, 0);
    assert_int_equal(other.stats.n_cached_tokens, 0);
    /* All full pages but for the last token, which is fed to decide the next. */
    assert_int_equal(again.stats.n_cached_tokens, (first.stats.prompt_tokens - 1) / 32 * 32);
    assert_string_equal(again.text, first.text);
    assert_string_equal(other.text, first.text);

    /* A next turn begins with the text so far. */
    char longer[sizeof prompt + sizeof again.text + 16];
    snprintf(longer, sizeof longer, "%s%s And then", prompt, again.text);
    job next = job_make(longer, 20), fresh = next;
    fresh.request.no_prefix_reuse = true;
    job_generate(engine, &next);
    job_generate(engine, &fresh);
    assert_true(next.stats.n_cached_tokens >= again.stats.n_cached_tokens);
    assert_string_equal(next.text, fresh.text);
}

/* Starts, cancels and pauses at random; whatever happens, nothing is left. */
static void joining_and_leaving_at_random(void **state)
{
    (void)state;
    vly_engine *e =
        create((vly_engine_options){.n_parallel = 6, .n_queued = 6, .kv_bytes = 2 << 20});
    uv_loop_t *loop = vly_engine_loop(e);
    enum { N = 60 };
    job *jobs = calloc(N, sizeof *jobs);
    uint32_t n_started = 0;
    vly_error err;
    srand(11);
    for (int turn = 0; turn < 400; turn++) {
        uint32_t i = n_started ? (uint32_t)rand() % n_started : 0;
        bool alive = n_started && !jobs[i].finished;
        int what = rand() % 10;
        if (what < 3 && n_started < N) {
            job *j = &jobs[n_started];
            *j = job_make(prompts[rand() % MANY], 1 + (uint32_t)rand() % 40);
            j->request.sampling.seed = (uint64_t)turn;
            j->request.priority = rand() % 3 - 1;
            j->request.draft_max = (uint32_t)rand() % 6;
            j->cancel_after = rand() % 4 ? 0 : 1 + (uint32_t)rand() % 9;
            int rc = job_start(e, j, &err);
            if (rc) assert_int_equal(rc, VLY_E_BUSY);
            n_started += rc == 0;
        } else if (what == 3 && alive) {
            vly_sequence_cancel(jobs[i].sequence);
        } else if (what < 6 && alive) {
            vly_sequence_pause(jobs[i].sequence, what == 4);
        } else {
            uv_run(loop, UV_RUN_NOWAIT);
        }
    }
    for (uint32_t i = 0; i < n_started; i++)
        if (!jobs[i].finished) vly_sequence_pause(jobs[i].sequence, false);
    job_run_all(e);
    for (uint32_t i = 0; i < n_started; i++)
        assert_true(jobs[i].finished && jobs[i].finish != VLY_FINISH_ERROR);
    free(jobs);
    vly_engine_destroy(e);
}

static void a_stop_string_ends_the_text(void **state)
{
    (void)state;
    job whole = job_make("Once upon a time", 60);
    whole.request.sampling.temperature = 0;
    job_generate(engine, &whole);
    for (size_t at = 1; at + 9 < whole.len; at += 7) {
        char stop[8] = {0};
        memcpy(stop, whole.text + at, 2 + at % 6);
        const char *strings[] = {"never in it", stop};
        for (uint32_t draft_max = 0; draft_max <= 6; draft_max += 6) {
            job j = job_make("Once upon a time", 60);
            j.request.sampling.temperature = 0;
            j.request.draft_max = draft_max;
            j.request.stop = strings;
            j.request.n_stop = 2;
            job_generate(engine, &j);
            assert_int_equal(j.finish, VLY_FINISH_STOP);
            assert_int_equal(j.stats.stop_index, 1);
            assert_int_equal(j.len, strstr(whole.text, stop) - whole.text);
            assert_memory_equal(j.text, whole.text, j.len);
            assert_int_equal(j.stats.generated_tokens, j.n_ids);
            assert_memory_equal(j.ids, whole.ids, j.n_ids * sizeof *j.ids);
            assert_int_equal(j.stats.drafted, j.stats.accepted + j.stats.lost_to_pick +
                                                  j.stats.lost_to_front + j.stats.lost_to_end);
        }
    }
}

static void text_held_back_comes_at_the_end(void **state)
{
    (void)state;
    job whole = job_make("Once upon a time", 12);
    job_generate(engine, &whole);
    char stop[sizeof whole.text + 16];
    snprintf(stop, sizeof stop, "%s and more", whole.text);
    const char *strings[] = {stop};
    job j = job_make("Once upon a time", 12);
    j.request.stop = strings;
    j.request.n_stop = 1;
    job_generate(engine, &j);
    assert_int_equal(j.stats.stop_index, -1);
    assert_string_equal(j.text, whole.text);
}

/* What the model's own logits say of each token. */
typedef struct {
    const job *j;
    uint32_t n_prompt;
} expectation;

static int check_logits(void *arg, uint32_t pos, uint32_t id, const float *logits, uint32_t n_vocab)
{
    (void)id;
    const expectation *x = arg;
    assert_true(pos + 1 >= x->n_prompt);
    if (pos + 1 >= x->n_prompt + x->j->n_ids) return 0;
    uint32_t i = pos + 1 - x->n_prompt, best = 0;
    double sum = 0;
    for (uint32_t v = 0; v < n_vocab; v++) {
        sum += exp((double)logits[v]);
        if (logits[v] > logits[best]) best = v;
    }
    assert_true(fabs((double)x->j->logprob[i] - ((double)logits[x->j->ids[i]] - log(sum))) < 1e-4);
    assert_int_equal(x->j->top[i].id, best);
    assert_true(x->j->top[i].logprob >= x->j->logprob[i]);
    return 0;
}

static void logprobs_are_those_of_the_logits(void **state)
{
    (void)state;
    job j = job_make("Once upon a time", 20);
    j.request.logprobs = true;
    j.request.n_top_logprobs = 1;
    j.request.sampling.seed = 5;
    job_generate(engine, &j);
    uint32_t *ids, all[600];
    size_t n;
    vly_error err;
    assert_int_equal(vly_engine_tokenize(engine, j.request.prompt, j.request.prompt_len, true,
                                         false, &ids, &n, &err),
                     0);
    memcpy(all, ids, n * sizeof *all);
    memcpy(all + n, j.ids, j.n_ids * sizeof *all);
    expectation x = {&j, (uint32_t)n};
    assert_int_equal(vly_engine_logits(engine, all, n + j.n_ids, n - 1, check_logits, &x, &err), 0);
    free(ids);
}

static void those_that_do_not_fit_wait_or_are_refused(void **state)
{
    (void)state;
    job alone = job_make("Once upon a time", 16), j[9];
    job_generate(engine, &alone);
    vly_error err;
    for (int i = 0; i < 9; i++) j[i] = job_make("Once upon a time", 16);
    for (int i = 0; i < 8; i++) job_begin(engine, &j[i]);
    assert_int_equal(job_start(engine, &j[8], &err), VLY_E_BUSY);
    vly_engine_metrics m;
    vly_engine_get_metrics(engine, &m);
    assert_int_equal(m.running + m.queued, 8);
    assert_int_equal(vly_engine_logits(engine, &(uint32_t){1}, 1, 0, check_logits, NULL, &err),
                     VLY_E_BUSY);
    job_run_all(engine);
    for (int i = 0; i < 8; i++) assert_string_equal(j[i].text, alone.text);
}

static void a_cancelled_sequence_ends_and_others_go_on(void **state)
{
    (void)state;
    job alone = job_make("Once upon a time", 30), j[6];
    job_generate(engine, &alone);
    for (int i = 0; i < 6; i++) {
        j[i] = job_make("Once upon a time", 30);
        job_begin(engine, &j[i]);
    }
    j[1].cancel_after = 5;
    vly_sequence_cancel(j[2].sequence);
    vly_sequence_cancel(j[5].sequence); /* one that waits */
    job_run_all(engine);
    assert_int_equal(j[2].finish, VLY_FINISH_CANCELLED);
    assert_int_equal(j[5].finish, VLY_FINISH_CANCELLED);
    assert_int_equal(j[1].finish, VLY_FINISH_CANCELLED);
    assert_in_range(j[1].n_ids, 5, 10);
    assert_string_equal(j[0].text, alone.text);
    assert_string_equal(j[4].text, alone.text);
}

static void a_paused_sequence_waits(void **state)
{
    (void)state;
    job alone = job_make("Once upon a time", 30), slow = alone, fast = alone;
    job_generate(engine, &alone);
    slow.pause_after = 8;
    job_begin(engine, &slow);
    job_begin(engine, &fast);
    uv_loop_t *loop = vly_engine_loop(engine);
    while (!fast.finished) uv_run(loop, UV_RUN_ONCE);
    for (int i = 0; i < 20; i++) uv_run(loop, UV_RUN_NOWAIT);
    assert_false(slow.finished);
    assert_in_range(slow.n_ids, 8, 13);
    vly_engine_metrics m;
    vly_engine_get_metrics(engine, &m);
    assert_int_equal(m.paused, 1);
    slow.pause_after = 0;
    vly_sequence_pause(slow.sequence, false);
    job_run_all(engine);
    assert_string_equal(slow.text, alone.text);
    assert_string_equal(fast.text, alone.text);
}

static void an_interrupt_cancels_all(void **state)
{
    (void)state;
    job j[6];
    for (int i = 0; i < 6; i++) {
        j[i] = job_make("Once upon a time", 200);
        job_begin(engine, &j[i]);
    }
    uv_loop_t *loop = vly_engine_loop(engine);
    while (j[0].n_ids == 0) uv_run(loop, UV_RUN_ONCE);
    vly_engine_interrupt(engine);
    job_run_all(engine);
    for (int i = 0; i < 6; i++) assert_int_equal(j[i].finish, VLY_FINISH_CANCELLED);
}

/* A sequence that starts the next one when it ends. */
static void start_another(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                          size_t len, const vly_error *err)
{
    job_on_finish(arg, finish, stats, text, len, err);
    job_begin(engine, (job *)arg + 1);
}

static void a_callback_may_start_another(void **state)
{
    (void)state;
    job j[2] = {job_make("Once upon a time", 10), job_make("Once upon a time", 10)};
    j[0].request.on_finish = start_another;
    job_begin(engine, &j[0]);
    job_run_all(engine);
    assert_true(j[0].finished && j[1].finished);
    assert_string_equal(j[0].text, j[1].text);
}

static void runs_on_the_callers_loop(void **state)
{
    (void)state;
    uv_loop_t loop;
    assert_int_equal(uv_loop_init(&loop), 0);
    vly_engine *e = create((vly_engine_options){.loop = &loop, .n_parallel = 2});
    assert_ptr_equal(vly_engine_loop(e), &loop);
    job j = job_make("Once upon a time", 10), left = j;
    job_begin(e, &j);
    uv_run(&loop, UV_RUN_DEFAULT); /* returns once nothing is left to do */
    assert_true(j.finished);
    job_begin(e, &left);
    while (left.n_ids == 0) uv_run(&loop, UV_RUN_ONCE);
    vly_engine_destroy(e); /* in the middle of it */
    assert_false(left.finished);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Has the engine believe that so many of the model's tokens are accepted, and that its steps are
 * cheap. */
static void expect_acceptance(vly_engine *e, float share)
{
    vly_profile *p = &e->profile;
    for (int i = 0; i < VLY_N_ACCEPTANCES * VLY_MAX_DRAFT; i++)
        for (vly_arm arm = VLY_ARM_MODEL; arm <= VLY_ARM_TEXT; arm++) {
            p->accepted[i / VLY_MAX_DRAFT][arm][i % VLY_MAX_DRAFT] =
                (vly_tally){5000, 5000 * share};
            p->step_ns[arm] = p->verify_ns / 1000;
        }
    for (uint32_t n = 2; n <= VLY_MAX_BATCH; n++)
        if (p->ready[n]) vly_profile_set_ratio(p, n, 1.01);
    p->feed_ns = p->verify_ns / 1000;
    memset(p->overhead_ns, 0, sizeof p->overhead_ns); /* whatever else the machine does */
}

/* With `auto`: a draft that is known to pay has read a long prompt by the first block; one that is
 * known not to pay reads nothing; and one that waits for others does not hold them up. */
static void auto_reads_when_that_pays(void **state)
{
    (void)state;
    char prompt[2048] = "";
    vly_engine *e = create((vly_engine_options){.n_parallel = 2});
    for (int i = 0; i < 20; i++) strcat(prompt, "The dog ran after the ball. ");
    job hello = job_make("Hello", 4), good = job_make(prompt, 2), bad = good, beside = good;
    hello.request.draft_method = good.request.draft_method = VLY_DRAFT_AUTO;
    good.request.draft_max = VLY_DRAFT_MAX_DEFAULT;
    good.request.no_prefix_reuse = true;
    bad.request = beside.request = good.request;
    job_generate(e, &hello); /* calibrates */

    expect_acceptance(e, 0);
    job_generate(e, &bad);
    assert_int_equal(bad.stats.drafted, 0);
    assert_int_equal(bad.stats.kv_draft_bytes, hello.stats.kv_draft_bytes);
    /* But what would read it is there: compiled later, it would hold up the text. */
    assert_true(vly_model_has_pass(e->draft, VLY_PASS_PROMPT, bad.stats.prompt_tokens));

    expect_acceptance(e, 1);
    job other = job_make("Hello", 40);
    job_begin(e, &other);
    while (other.n_ids < 4) uv_run(vly_engine_loop(e), UV_RUN_ONCE);
    expect_acceptance(e, 1);
    job_begin(e, &beside);
    job_run_all(e);
    assert_int_equal(beside.stats.drafted, 0); /* its first block is plain, and one token is left */

    expect_acceptance(e, 1);
    job_generate(e, &good);
    assert_int_equal(good.stats.drafted, 1);
    assert_string_equal(good.text, bad.text);
    vly_engine_destroy(e);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    vly_error err;
    vly_engine *e;
    vly_engine_options o = {.target = "models/stories15M-q8_0.gguf",
                            .n_parallel = VLY_MAX_PARALLEL + 1};
    assert_int_equal(vly_engine_create(&o, &e, &err), VLY_E_INVALID);
    o.n_parallel = 1;
    o.kv_bytes = 1;
    assert_int_equal(vly_engine_create(&o, &e, &err), VLY_E_DEVICE_MEMORY);
    job j = job_make("Once", 1);
    j.request.n_top_logprobs = VLY_MAX_TOP_LOGPROBS + 1;
    assert_int_equal(job_start(engine, &j, &err), VLY_E_INVALID);
    j = job_make("Once", 1);
    j.request.priority = 2;
    assert_int_equal(job_start(engine, &j, &err), VLY_E_INVALID);
    j = job_make("Once", 1);
    j.request.stop = &(const char *){""};
    j.request.n_stop = 1;
    assert_int_equal(job_start(engine, &j, &err), VLY_E_INVALID);
    j = job_make("Once", 1);
    uint32_t ids[256] = {1};
    j.request.prompt_tokens = ids;
    j.request.n_prompt_tokens = 256;
    assert_int_equal(job_start(engine, &j, &err), VLY_E_CONTEXT);
    job_run_all(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_the_text_that_it_has_alone),
        cmocka_unit_test(page_shortage_changes_no_text),
        cmocka_unit_test(joining_and_leaving_at_random),
        cmocka_unit_test(a_repeated_prompt_is_not_computed_again),
        cmocka_unit_test(a_stop_string_ends_the_text),
        cmocka_unit_test(text_held_back_comes_at_the_end),
        cmocka_unit_test(logprobs_are_those_of_the_logits),
        cmocka_unit_test(those_that_do_not_fit_wait_or_are_refused),
        cmocka_unit_test(a_cancelled_sequence_ends_and_others_go_on),
        cmocka_unit_test(a_paused_sequence_waits),
        cmocka_unit_test(an_interrupt_cancels_all),
        cmocka_unit_test(a_callback_may_start_another),
        cmocka_unit_test(runs_on_the_callers_loop),
        cmocka_unit_test(auto_reads_when_that_pays),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, open_engine, close_engine);
}
