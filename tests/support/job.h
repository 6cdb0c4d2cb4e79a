/* One request to an engine, and all that came of it. */
#ifndef TESTS_JOB_H
#define TESTS_JOB_H

#include "volley.h"

typedef struct job job;
struct job {
    vly_request request; /* with the callbacks that fill what follows */
    vly_engine *engine;
    vly_sequence *sequence;
    char text[8192]; /* terminated */
    size_t len;
    uint32_t ids[1024], n_ids;
    float logprob[1024]; /* these two where they were asked for */
    vly_candidate top[1024];
    uint32_t cancel_after, pause_after, start_after; /* tokens; 0: never */
    job *other;                                      /* that starts then */
    vly_finish finish;
    vly_stats stats;
    bool finished;
};

/* Of a prompt that stays where it is. */
job job_make(const char *prompt, uint32_t max_tokens);

/* The request's on_finish: what one of a test's own has to call. */
void job_on_finish(void *arg, vly_finish finish, const vly_stats *stats, const char *text,
                   size_t len, const vly_error *err);

int job_start(vly_engine *engine, job *j, vly_error *err);

/* The same, where an error is a failure. */
void job_begin(vly_engine *engine, job *j);

/* Runs all that there are to their ends, and checks that nothing is left of them. */
void job_run_all(vly_engine *engine);

/* Begins it and runs all; it ends without an error. */
void job_generate(vly_engine *engine, job *j);

#endif
