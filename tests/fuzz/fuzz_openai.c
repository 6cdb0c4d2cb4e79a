/* Any body of a completion, of either kind, is refused with a reason or is a request that the
 * engine can take. */
#include "sample/sampler.h"
#include "serve/openai_request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_request(const vly_openai_request *q, const vly_openai_defaults *defaults)
{
    const vly_request *r = &q->engine;
    vly_error err;
    if (vly_sampling_check(&r->sampling, defaults->n_vocab, &err)) abort();
    if (r->n_stop > VLY_MAX_STOP || r->draft_max > VLY_MAX_DRAFT) abort();
    if (r->n_top_logprobs > VLY_MAX_TOP_LOGPROBS || (r->n_top_logprobs && !r->logprobs)) abort();
    for (uint32_t i = 0; i < r->n_stop; i++)
        if (r->stop[i][0] == '\0') abort();
    for (size_t i = 0; i < r->n_prompt_tokens; i++)
        if (r->prompt_tokens[i] >= defaults->n_vocab) abort();
    if (q->kind == VLY_OPENAI_COMPLETION && !r->prompt && !r->prompt_tokens) abort();
    if (q->kind == VLY_OPENAI_CHAT && q->messages.n == 0) abort();
    size_t sum = 0;
    for (size_t i = 0; i < q->messages.n; i++) {
        const vly_chat_message *m = &q->messages.list[i];
        sum += strlen(m->role) + m->content_len + (unsigned char)m->content[m->content_len];
    }
    if (sum > q->messages.strings.len) abort();
    if (q->include_usage && !q->stream) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const vly_openai_defaults defaults = {.draft_max = 4, .n_vocab = 32000};
    for (int kind = VLY_OPENAI_COMPLETION; kind <= VLY_OPENAI_CHAT; kind++) {
        vly_openai_request request;
        vly_api_error err = {0};
        vly_writer body = {0};
        if (vly_openai_parse((vly_openai_kind)kind, (const char *)data, n, &defaults, &request,
                             &err) == 0) {
            check_request(&request, &defaults);
        } else {
            if ((err.status != 400 && err.status != 503) || !err.message[0]) abort();
            vly_api_error_write(&err, &body);
            if (body.failed) abort();
        }
        vly_text_free(&body.text);
        vly_openai_request_deinit(&request);
    }
    return 0;
}
