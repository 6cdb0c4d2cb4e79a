#include "cli/generate.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Ctrl-C ---- */

static vly_engine *volatile running; /* the handler's only view of the program */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
    vly_engine_interrupt(running);
}

/* Catches Ctrl-C from now on; with `once`, the next one has its usual effect. */
static void catch_interrupt(vly_engine *engine, bool once, struct sigaction *old)
{
    struct sigaction action = {.sa_handler = on_interrupt,
                               .sa_flags = SA_RESTART | (once ? (int)SA_RESETHAND : 0)};
    sigemptyset(&action.sa_mask);
    running = engine;
    interrupted = 0;
    sigaction(SIGINT, &action, old);
}

/* ---- one request ---- */

typedef struct {
    vly_cli_generation *generation;
    vly_sequence *sequence;
    int fd;
    vly_error *err;
    int rc; /* the first failure, which `err` describes */
} job;

static void take_text(job *j, const char *text, size_t len)
{
    bool drop = j->generation->is_answer && j->generation->text.len == 0 && len && *text == ' ';
    text += drop;
    len -= drop;
    if (j->rc || len == 0) return;
    j->rc = vly_text_append(&j->generation->text, text, len);
    if (j->rc)
        vly_fail(j->err, j->rc, "no memory for the text");
    else if (j->fd >= 0)
        j->rc = vly_cli_write(j->fd, text, len, j->err);
}

static void on_tokens(void *arg, const uint32_t *ids, const vly_token_logprobs *logprobs,
                      uint32_t n, const char *text, size_t len)
{
    job *j = arg;
    (void)logprobs;
    if (!j->rc) {
        j->rc = vly_ids_append(&j->generation->tokens, ids, n);
        if (j->rc) vly_fail(j->err, j->rc, "no memory for the tokens");
    }
    take_text(j, text, len);
    /* An interrupt that came before the run began has met no sequence. */
    if (j->rc || interrupted) vly_sequence_cancel(j->sequence);
}

static void on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                      size_t len, const vly_error *err)
{
    job *j = arg;
    j->generation->finish = finish;
    j->generation->stats = *stats;
    take_text(j, text, len);
    if (finish == VLY_FINISH_ERROR && !j->rc)
        j->rc = vly_fail(j->err, err->code, "%s", err->message);
}

int vly_cli_generate(vly_engine *engine, const vly_request *request, int fd,
                     vly_cli_generation *out, vly_error *err)
{
    job j = {.generation = out, .fd = fd, .err = err};
    vly_request r = *request;
    r.on_tokens = on_tokens;
    r.on_finish = on_finish;
    r.arg = &j;
    uint32_t *ids;
    size_t n_ids;
    int rc = vly_engine_start(engine, &r, &j.sequence, &ids, &n_ids, err);
    if (rc) return rc;
    rc = vly_ids_append(&out->prompt_ids, ids, n_ids);
    free(ids);
    if (rc) {
        j.rc = vly_fail(err, rc, "no memory for the prompt's tokens");
        vly_sequence_cancel(j.sequence);
    }
    struct sigaction old;
    catch_interrupt(engine, !out->is_answer, &old);
    vly_error run_err;
    rc = vly_engine_run(engine, &run_err);
    sigaction(SIGINT, &old, NULL);
    if (j.rc) return j.rc;
    return rc ? vly_fail(err, rc, "%s", run_err.message) : 0;
}

void vly_cli_generation_deinit(vly_cli_generation *generation)
{
    vly_ids_free(&generation->prompt_ids);
    vly_ids_free(&generation->tokens);
    vly_text_free(&generation->text);
}

int vly_cli_write(int fd, const char *data, size_t n, vly_error *err)
{
    while (n > 0) {
        ssize_t written = write(fd, data, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0)
            return vly_fail(err, VLY_E_IO, "cannot write to standard output: %s", strerror(errno));
        data += written;
        n -= (size_t)written;
    }
    return 0;
}

/* ---- figures ---- */

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

double vly_cli_tokens_per_second(const vly_stats *stats)
{
    return ratio(1000.0 * stats->generated_tokens, stats->generate_ms);
}

double vly_cli_acceptance_rate(const vly_stats *stats)
{
    return ratio(stats->accepted, stats->drafted);
}

double vly_cli_mean_accepted_length(const vly_stats *stats)
{
    return 1 + ratio(stats->accepted, stats->blocks);
}
