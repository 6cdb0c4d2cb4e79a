/* The bodies of POST /v1/completions and /v1/chat/completions, as requests to the engine. */
#ifndef VLY_SERVE_OPENAI_REQUEST_H
#define VLY_SERVE_OPENAI_REQUEST_H

#include "base/vec.h"
#include "serve/api_error.h"

#include <cjson/cJSON.h>

typedef enum { VLY_OPENAI_COMPLETION = 1, VLY_OPENAI_CHAT = 2 } vly_openai_kind;

/* Messages of a conversation; `list` points into `strings`. */
typedef struct {
    vly_chat_message *list;
    size_t n;
    vly_text strings;
} vly_openai_messages;

typedef struct {
    vly_openai_kind kind;
    bool stream, include_usage;
    bool has_seed; /* else the caller chooses one */

    /* Without callbacks; of a chat without a prompt, which the caller makes of the messages. Points
     * into what follows. */
    vly_request engine;
    vly_openai_messages messages;
    vly_text prompt;
    vly_ids prompt_ids;
    vly_text stop_strings; /* terminated, one behind the other */
    const char *stop[VLY_MAX_STOP];
    vly_logit_bias *bias;
} vly_openai_request;

/* Where a request does not say; and what the model has. */
typedef struct {
    vly_draft_method draft_method;
    uint32_t draft_max;
    bool has_draft; /* a draft model */
    uint32_t n_vocab;
    const char *const *stop; /* n_stop strings that outlive the request */
    uint32_t n_stop;
} vly_openai_defaults;

/* Reads a body. In any case free `out` with vly_openai_request_deinit. Fields that are not known
 * are ignored. 0, or -1: status 400, and the field where it is one, or 503 (memory). */
int vly_openai_parse(vly_openai_kind kind, const char *body, size_t len,
                     const vly_openai_defaults *defaults, vly_openai_request *out,
                     vly_api_error *err);
void vly_openai_request_deinit(vly_openai_request *request);

/* The `messages` of an object. Free with vly_openai_messages_deinit in any case. */
int vly_openai_messages_read(const cJSON *object, vly_openai_messages *out, vly_api_error *err);
void vly_openai_messages_deinit(vly_openai_messages *messages);

/* Parses a body that has to be an object, to be deleted by the caller. */
int vly_openai_parse_object(const char *body, size_t len, cJSON **out, vly_api_error *err);

/* Appends `item`, an array of token ids. */
int vly_openai_ids_read(const char *name, const cJSON *item, uint32_t n_vocab, vly_ids *out,
                        vly_api_error *err);

#endif
