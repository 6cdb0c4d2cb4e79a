#include "tests/support/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void add_text(job *j, const char *text, size_t len)
{
    assert_true(j->len + len < sizeof j->text);
    memcpy(j->text + j->len, text, len);
    j->len += len;
    j->text[j->len] = '\0';
}

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    job *j = arg;
    assert_false(j->finished);
    assert_true((logprobs != NULL) == j->request.logprobs);
    assert_true(j->n_ids + n <= sizeof j->ids / sizeof *j->ids);
    for (uint32_t i = 0; i < n; i++) {
        if (logprobs) j->logprob[j->n_ids] = logprobs[i].logprob;
        if (logprobs && logprobs[i].n_top) j->top[j->n_ids] = logprobs[i].top[0];
        j->ids[j->n_ids++] = ids[i];
    }
    add_text(j, text, len);
    if (j->cancel_after && j->n_ids >= j->cancel_after) vly_sequence_cancel(j->sequence);
    if (j->pause_after && j->n_ids >= j->pause_after) vly_sequence_pause(j->sequence, true);
    if (j->other && j->n_ids >= j->start_after) {
        job_begin(j->engine, j->other);
        j->other = NULL;
    }
}

void job_on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                   size_t len, const vly_error *err)
{
    job *j = arg;
    assert_false(j->finished);
    if (finish == VLY_FINISH_ERROR) print_message("%s\n", err->message);
    add_text(j, text, len);
    j->finish = finish;
    j->stats = *stats;
    j->finished = true;
}

job job_make(const char *prompt, uint32_t max_tokens)
{
    return (job){.request = {.prompt = prompt,
                             .prompt_len = strlen(prompt),
                             .max_tokens = max_tokens,
                             .sampling = vly_sampling_default(),
                             .draft_method = VLY_DRAFT_MODEL,
                             .draft_max = 4,
                             .on_tokens = on_tokens,
                             .on_finish = job_on_finish}};
}

int job_start(vly_engine *engine, job *j, vly_error *err)
{
    j->engine = engine;
    j->request.arg = j;
    return vly_engine_start(engine, &j->request, &j->sequence, NULL, NULL, err);
}

void job_begin(vly_engine *engine, job *j)
{
    vly_error err;
    if (job_start(engine, j, &err)) fail_msg("%s", err.message);
}

void job_run_all(vly_engine *engine)
{
    vly_error err;
    if (vly_engine_run(engine, &err)) fail_msg("%s", err.message);
    vly_engine_metrics m;
    vly_engine_get_metrics(engine, &m);
    assert_int_equal(m.running + m.queued + m.paused, 0);
    assert_int_equal(m.target.used + m.draft.used, 0);
    assert_int_equal(m.target.free, m.target.total);
}

void job_generate(vly_engine *engine, job *j)
{
    job_begin(engine, j);
    job_run_all(engine);
    assert_true(j->finished && j->finish != VLY_FINISH_ERROR);
}
