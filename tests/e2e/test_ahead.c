/* Blocks that run ahead of the host, without a draft model and with several: each text is the one
 * that comes without that, wherever it ends, and so are the numbers that tell how it came about,
 * unless the draft's context is made of other tokens then. */
#include "engine/inside.h"
#include "tests/support/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#define STORIES "models/stories15M-q8_0.gguf"
#define SMOL    "models/smol-stories-11M-q8_0.gguf" /* with another vocabulary, and ends of text */
#define COARSE  "tests/models/stories15M-q4_0.gguf" /* the same vocabulary as STORIES */

/* What all tests are run with. */
typedef struct {
    const char *target, *draft;
    uint32_t draft_max;
    bool same;       /* they have the same vocabulary */
    uint32_t kv_kib; /* of caches of 128 tokens for one text and no two */
} pair;

static const pair *subject;
static vly_engine *engine;

static job make_job(const char *prompt, uint32_t max_tokens, uint64_t seed, float temperature)
{
    job j = job_make(prompt, max_tokens);
    j.request.draft_method = subject->draft ? VLY_DRAFT_MODEL : VLY_DRAFT_NONE;
    j.request.draft_max = subject->draft_max;
    j.request.sampling.seed = seed;
    j.request.sampling.temperature = temperature;
    return j;
}

/* Returns the blocks that ran ahead. */
static uint64_t generate(job *j, bool ahead)
{
    uint64_t before = vly_engine_count_ahead(engine);
    vly_engine_set_ahead(engine, ahead);
    job_generate(engine, j);
    return vly_engine_count_ahead(engine) - before;
}

static void check_text(const job *a, const job *b)
{
    assert_int_equal(a->n_ids, b->n_ids);
    assert_memory_equal(a->ids, b->ids, a->n_ids * sizeof *a->ids);
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->text, b->text, a->len);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->stats.generated_tokens, b->stats.generated_tokens);
    assert_int_equal(a->stats.stop_index, b->stats.stop_index);
}

#define CHECK_FIELD(field) assert_memory_equal(&x->field, &y->field, sizeof x->field)

static void check_equal(const job *a, const job *b)
{
    const vly_stats *x = &a->stats, *y = &b->stats;
    check_text(a, b);
    if (subject->draft && !subject->same) return;
    CHECK_FIELD(blocks);
    CHECK_FIELD(blocks_by_length);
    CHECK_FIELD(blocks_by_method);
    CHECK_FIELD(generated_bytes);
    CHECK_FIELD(drafted);
    CHECK_FIELD(accepted);
    CHECK_FIELD(drafted_by_method);
    CHECK_FIELD(accepted_by_method);
    CHECK_FIELD(drafted_by_position);
    CHECK_FIELD(accepted_by_position);
    CHECK_FIELD(lost_to_pick);
    CHECK_FIELD(lost_unmapped);
    CHECK_FIELD(lost_split);
    CHECK_FIELD(lost_to_front);
    CHECK_FIELD(lost_to_end);
    CHECK_FIELD(lost_by_rank);
}

/* Generates with and without, and compares; *with gets how it went with. Returns the blocks that
 * ran ahead. */
static uint64_t compare(const job *wanted, job *with)
{
    job without = *wanted;
    *with = *wanted;
    assert_int_equal(generate(&without, false), 0);
    uint64_t n_ahead = generate(with, true);
    check_equal(with, &without);
    return n_ahead;
}

/* The same of a text that the device goes on with all the time, once there is something to draft
 * after. */
static void compare_all(const job *wanted, job *with)
{
    uint64_t n_ahead = compare(wanted, with), few = subject->draft ? 4 : 2;
    uint64_t n = with->stats.blocks > few ? with->stats.blocks - few : 0;
    /* With another vocabulary words that blocks leave in parts are put right between rows of them.
     */
    if (subject->draft && !subject->same) n /= 2;
    assert_true(n_ahead >= n);
}

/* Tokens that may come after one more is wanted: of that block, and of those in flight. */
static uint32_t n_too_many(void)
{
    return VLY_MAX_AHEAD * (1 + subject->draft_max) - 1;
}

static int create(vly_engine_options o)
{
    vly_error err;
    if (vly_engine_create(&o, &engine, &err)) fail_msg("%s", err.message);
    return 0;
}

static int open_engine(void **state)
{
    (void)state;
    return create((vly_engine_options){
        .target = subject->target, .draft = subject->draft, .n_parallel = 2, .n_queued = 4});
}

static int close_engine(void **state)
{
    (void)state;
    vly_engine_destroy(engine);
    return 0;
}

/* ---- tests ---- */

static void texts_of_any_sampling_and_length_are_equal(void **state)
{
    (void)state;
    const char *const prompts[] = {"Once upon a time", strcmp(subject->target, SMOL) ? "" : "A",
                                   "Lily and Tom saw a"};
    static const uint32_t lengths[] = {1, 2, 3, 4, 31, 64, 100};
    for (uint32_t i = 0; i < 14; i++) {
        job with, j = make_job(prompts[i % 3], lengths[i % 7], 40 + i, (float)(i % 4) * 0.4f);
        j.request.sampling.top_k = i % 5 == 4 ? 40 : 0;
        j.request.ignore_end = i % 2;
        j.request.no_prefix_reuse = i % 3 == 1;
        compare_all(&j, &with);
    }
}

static void ends_of_text_are_where_they_were(void **state)
{
    (void)state;
    vly_engine *others = engine;
    uint32_t n_ended = 0;
    create((vly_engine_options){.target = SMOL, .draft = subject->draft});
    for (uint32_t i = 0; i < 6; i++) {
        job with, j = make_job(i % 2 ? "Tom and Lily were happy." : "So they played all day", 150,
                               i, (float)i * 0.2f);
        compare_all(&j, &with);
        n_ended += with.finish == VLY_FINISH_STOP && with.n_ids > 0;
    }
    assert_true(n_ended > 1);
    vly_engine_destroy(engine);
    engine = others;
}

static void stop_strings_end_the_text(void **state)
{
    (void)state;
    job whole = make_job("Once upon a time", 60, 0, 0);
    generate(&whole, false);
    for (size_t at = 1; at + 9 < whole.len; at += 31) {
        char stop[8] = {0};
        const char *strings[] = {"never in it", stop};
        job with, j = make_job("Once upon a time", 60, 0, 0);
        memcpy(stop, whole.text + at, 4);
        j.request.stop = strings;
        j.request.n_stop = 2;
        compare_all(&j, &with);
        assert_int_equal(with.finish, VLY_FINISH_STOP);
        assert_memory_equal(with.text, whole.text, with.len);
    }
}

static void a_context_is_filled_to_its_end(void **state)
{
    (void)state;
    vly_engine *others = engine;
    create((vly_engine_options){.target = subject->target, .draft = subject->draft, .n_ctx = 96});
    job with, j = make_job("Once upon a time", 1000, 3, 0.8f);
    j.request.ignore_end = true;
    compare_all(&j, &with);
    assert_int_equal(with.finish, VLY_FINISH_LENGTH);
    assert_int_equal(with.stats.prompt_tokens + with.n_ids, 96);
    vly_engine_destroy(engine);
    engine = others;
}

static void a_cancelled_one_leaves_nothing_behind(void **state)
{
    (void)state;
    job whole = make_job("Once upon a time", 60, 7, 0.9f), after = whole;
    generate(&whole, false);
    for (uint32_t n = 1; n < 40; n += 6) {
        job j = make_job("Once upon a time", 60, 7, 0.9f);
        j.cancel_after = n;
        generate(&j, true);
        assert_int_equal(j.finish, VLY_FINISH_CANCELLED);
        assert_in_range(j.n_ids, n, n + n_too_many()); /* what was in flight is handed out, too */
        assert_memory_equal(j.ids, whole.ids, j.n_ids * sizeof *j.ids);
    }
    generate(&after, true);
    check_equal(&after, &whole);
}

static void a_paused_one_goes_on_where_it_was(void **state)
{
    (void)state;
    job whole = make_job("One day", 50, 9, 0.9f), j = whole;
    generate(&whole, false);
    j.pause_after = 10;
    vly_engine_set_ahead(engine, true);
    job_begin(engine, &j);
    while (j.n_ids < 10) uv_run(vly_engine_loop(engine), UV_RUN_ONCE);
    for (int i = 0; i < 20; i++) {
        uv_run(vly_engine_loop(engine), UV_RUN_NOWAIT);
        uv_sleep(5);
    }
    assert_in_range(j.n_ids, 10, 10 + n_too_many()); /* with what was in flight */
    j.pause_after = 0;
    vly_sequence_pause(j.sequence, false);
    job_run_all(engine);
    check_equal(&j, &whole);
}

static void another_may_come_at_any_time(void **state)
{
    (void)state;
    job first = make_job("Once upon a time", 70, 1, 0.8f), second = make_job("Lily", 30, 2, 0.8f);
    job with_first = first, with_second = second;
    generate(&first, false);
    generate(&second, false);
    for (uint32_t at = 1; at < 60; at += 13) {
        job a = with_first, b = with_second;
        a.start_after = at;
        a.other = &b;
        uint64_t n_ahead = generate(&a, true);
        assert_true(b.finished && n_ahead > 0);
        check_equal(&a, &first);
        check_equal(&b, &second);
    }
}

static void what_needs_the_host_does_not_run_ahead(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        job j = make_job("Once upon a time", 20, 1, 0.8f);
        if (i == 0)
            j.request.logprobs = true;
        else
            j.request.sampling.repeat_penalty = 1.2f, j.request.sampling.penalty_last_n = 64;
        assert_int_equal(generate(&j, true), 0);
        assert_true(j.n_ids > 0);
    }
}

/* One has to give its pages up to the other, and takes them again. */
static void a_preempted_one_goes_on_where_it_was(void **state)
{
    (void)state;
    vly_engine *others = engine;
    job first = make_job("Once upon a time", 100, 1, 0.8f), second = make_job("Lily", 100, 2, 0.8f);
    job a = first, b = second;
    a.request.ignore_end = b.request.ignore_end = true;
    first.request.ignore_end = second.request.ignore_end = true;
    generate(&first, false);
    generate(&second, false);
    create((vly_engine_options){.target = subject->target,
                                .draft = subject->draft,
                                .n_ctx = 128,
                                .n_parallel = 2,
                                .n_queued = 2,
                                .kv_bytes = (uint64_t)subject->kv_kib << 10});
    a.start_after = 5;
    a.other = &b;
    uint64_t n_ahead = generate(&a, true);
    vly_engine_metrics m;
    vly_engine_get_metrics(engine, &m);
    assert_true(b.finished && n_ahead > 0 && m.preempted > 0);
    check_text(&a, &first);
    check_text(&b, &second);
    vly_engine_destroy(engine);
    engine = others;
}

/* Text that the draft's vocabulary spells in many tokens or not at all: the host takes a step. */
static void hard_texts_are_equal(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "\xf0\x9f\x98\x80\xf0\x9f\x8e\x89 \xe4\xbd\xa0\xe5\xa5\xbd", "\t\t\n\n  \x04\x06\xff\xf5",
        "caf\xc3\xa9 na\xc3\xafve \xc3", "for (i = 0; i < 10; i++) {\n\t"};
    for (uint32_t i = 0; i < 4; i++) {
        job with, j = make_job(prompts[i], 60, i, i % 2 ? 1.5f : 0);
        j.request.ignore_end = true;
        j.request.sampling.top_p = 1;
        compare(&j, &with);
    }
}

static void a_forced_length_is_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        job j[2];
        for (int ahead = 0; ahead < 2; ahead++) {
            j[ahead] = make_job("Once upon a time", 64, 1, 0);
            j[ahead].request.ignore_end = true;
            vly_engine_set_ahead(engine, ahead);
            job_begin(engine, &j[ahead]);
            vly_sequence_force_acceptance(j[ahead].sequence, 1 + i * 0.7);
            job_run_all(engine);
        }
        check_equal(&j[0], &j[1]);
    }
}

/* ---- tests that choose their models ---- */

/* The draft's context ends before the text: n-grams, which need the host, take over. */
static void a_full_draft_stops_running_ahead(void **state)
{
    (void)state;
    create((vly_engine_options){.target = SMOL, .draft = STORIES});
    job with, j = make_job("Once upon a time", 330, 3, 0.8f);
    j.request.ignore_end = true;
    assert_true(compare(&j, &with) > 30);
    assert_true(with.stats.blocks_by_method[VLY_DRAFT_NONE] > 0);
    vly_engine_destroy(engine);
}

/* The draft's context is as good as where the host makes all of it: words that were in parts are
 * one token when they are complete, and the few others are put right a block late. Without the
 * former 3% less would be accepted, without both 6%. */
static void words_in_parts_become_words(void **state)
{
    (void)state;
    static const char *const prompts[] = {
        "Once upon a time, there was a little dog named Max.",
        "Lily and Tom went to the park. They saw a big red",
        "The cat sat on the mat and",
        "One day, a boy named Tim found a shiny key. He asked his mom, \"What is this",
        "Once upon a time",
        "In the forest there lived an old bear who liked honey. Every morning he"};
    static const pair unlike = {STORIES, SMOL, 4, false, 0};
    double length[2];
    uint64_t n_ahead = 0, n_blocks = 0;
    subject = &unlike;
    create((vly_engine_options){.target = STORIES, .draft = SMOL});
    for (int ahead = 0; ahead < 2; ahead++) {
        uint32_t blocks = 0, accepted = 0;
        for (int i = 0; i < 6; i++) {
            job j = make_job(prompts[i], 100, 0, 0);
            n_ahead += generate(&j, ahead);
            blocks += j.stats.blocks;
            accepted += j.stats.accepted;
        }
        length[ahead] = 1 + (double)accepted / blocks;
        n_blocks = blocks;
    }
    print_message("mean accepted length %.3f, ahead of the host %.3f\n", length[0], length[1]);
    assert_true(length[0] >= 2.5 && length[1] >= 0.985 * length[0]);
    assert_true(n_ahead >= n_blocks * 9 / 10); /* and hardly any block was late */
    vly_engine_destroy(engine);
}

/* With another vocabulary's draft, and without: what is proposed in between is verified as ever. */
static void auto_runs_ahead(void **state)
{
    (void)state;
    for (int drafted = 0; drafted < 2; drafted++) {
        uint64_t n_ahead = 0;
        create((vly_engine_options){.target = STORIES, .draft = drafted ? SMOL : NULL});
        for (uint32_t i = 0; i < 4; i++) {
            job plain = make_job(i % 2 ? "the cat sat, the cat sat, the cat sat," : "Lily ran", 90,
                                 i, (float)i * 0.25f);
            plain.request.draft_method = VLY_DRAFT_NONE;
            job j = plain;
            j.request.draft_method = VLY_DRAFT_AUTO;
            j.request.draft_max = VLY_DRAFT_MAX_DEFAULT;
            generate(&plain, false);
            n_ahead += generate(&j, true);
            check_text(&j, &plain);
        }
        assert_true(n_ahead > 0);
        vly_engine_destroy(engine);
    }
}

int main(void)
{
    static const pair pairs[] = {{STORIES, NULL, 0, false, 600}, {STORIES, SMOL, 4, false, 900}};
    static const pair more[] = {{STORIES, COARSE, 5, true, 1900}, {SMOL, STORIES, 3, false, 1300}};
    const struct CMUnitTest all[] = {
        cmocka_unit_test(texts_of_any_sampling_and_length_are_equal),
        cmocka_unit_test(hard_texts_are_equal),
        cmocka_unit_test(a_context_is_filled_to_its_end),
        cmocka_unit_test(ends_of_text_are_where_they_were),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(a_cancelled_one_leaves_nothing_behind),
        cmocka_unit_test(a_paused_one_goes_on_where_it_was),
        cmocka_unit_test(another_may_come_at_any_time),
        cmocka_unit_test(what_needs_the_host_does_not_run_ahead),
        cmocka_unit_test(a_preempted_one_goes_on_where_it_was),
    };
    const struct CMUnitTest some[] = {
        cmocka_unit_test(texts_of_any_sampling_and_length_are_equal),
        cmocka_unit_test(hard_texts_are_equal),
        cmocka_unit_test(a_context_is_filled_to_its_end),
        cmocka_unit_test(a_forced_length_is_the_same),
    };
    const struct CMUnitTest others[] = {
        cmocka_unit_test(a_full_draft_stops_running_ahead),
        cmocka_unit_test(words_in_parts_become_words),
        cmocka_unit_test(auto_runs_ahead),
    };
    int n_failed = 0;
    for (int i = 0; i < 2; i++) {
        subject = &pairs[i];
        n_failed += cmocka_run_group_tests(all, open_engine, close_engine);
    }
    for (int i = 0; i < 2; i++) {
        subject = &more[i];
        n_failed += cmocka_run_group_tests(some, open_engine, close_engine);
    }
    return n_failed + cmocka_run_group_tests(others, NULL, NULL);
}
