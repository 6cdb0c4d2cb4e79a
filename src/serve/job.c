/* The work on a request's body: what is long is done in a thread, so that the streams of others go
 * on. */
#include "serve/server.h"

#include <stdlib.h>

/* Bytes of a body whose work is a matter of a few ms, and is done at once. */
#define MAX_AT_ONCE 16384

/* The client may have gone meanwhile. */
static void end(vly_job *job)
{
    vly_server *server = job->server;
    vly_connection *c = job->connection;
    server->n_jobs--;
    if (c) c->job = NULL;
    if (!c) {
        job->record.status = 499;
        job->record.outcome = vly_outcome_name(VLY_OUTCOME_CANCELLED);
        vly_log_request(server, &job->record);
    }
    job->done(job, c);
    vly_text_free(&job->body);
    free(job);
    vly_server_check_drained(server);
}

static void work(uv_work_t *request)
{
    vly_job *job = request->data;
    job->work(job);
}

static void on_worked(uv_work_t *request, int status)
{
    (void)status; /* cancelled: then nobody is there any more */
    end(request->data);
}

void vly_job_start(vly_connection *c, vly_job *job)
{
    vly_server *server = c->server;
    vly_text *body = &c->reader.request.body;
    job->server = server;
    job->connection = c;
    job->record = c->exchange.record;
    job->body = *body;
    *body = (vly_text){0};
    job->request.data = job;
    c->job = job;
    server->n_jobs++;
    if (job->body.len > MAX_AT_ONCE &&
        uv_queue_work(&server->loop, &job->request, work, on_worked) == 0)
        return;
    job->work(job);
    end(job);
}

void vly_job_abandon(vly_job *job)
{
    job->record.n_bytes = 0;
    job->connection = NULL;
    uv_cancel((uv_req_t *)&job->request); /* fails where it has begun */
}
