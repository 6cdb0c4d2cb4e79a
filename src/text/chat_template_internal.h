/* Shared by rendering and recognition of chat templates. */
#ifndef VLY_TEXT_CHAT_TEMPLATE_INTERNAL_H
#define VLY_TEXT_CHAT_TEMPLATE_INTERNAL_H

#include "text/chat_template.h"

/* In affixes these two bytes stand for the vocabulary's spellings. */
#define BOS "\x0E"
#define EOS "\x0F"

typedef enum { CHAT_CHATML, CHAT_MISTRAL, CHAT_LLAMA2, CHAT_LLAMA3, CHAT_ZEPHYR } vly_chat_shape;
typedef enum { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_N_ROLES } vly_chat_role;

typedef struct {
    vly_bytes prefix, suffix;
    bool trim; /* the content, of white space at both ends */
} vly_chat_turn;

/* What a template makes of a conversation: each message between its role's affixes. */
typedef struct {
    const char *name;
    vly_chat_shape shape;
    vly_chat_turn turn[CHAT_N_ROLES];
    bool bos;          /* begins with BOS */
    vly_bytes opening; /* of the assistant's turn, where an answer is asked for */
    bool always_opens; /* asked for or not */
    bool alternates;   /* user and assistant in turns, a user first */
    /* A leading system message is not a turn: with the system turn's affixes around it, it goes in
     * front of the first message of a user, or of the last message if that is a user's. */
    enum { FOLD_NONE, FOLD_FIRST, FOLD_LAST } fold;
    bool system_turn;              /* though alternating: later system messages are turns */
    vly_bytes default_system;      /* where no system message leads; NULL: none */
    vly_bytes cutoff, today, date; /* with cutoff: a system turn always leads, and starts so */
    bool thoughts;                 /* of the assistant's turns the last keeps its <think>, as in
                                      Qwen3 */
    bool last_open, no_reopening;  /* Qwen1.5: the last turn ends only where an answer follows; none
                                      follows the assistant's */
} vly_chat_format;

struct vly_chat_template {
    vly_chat_format format;
    vly_text skeleton; /* of the Jinja source: views of the format may point into it */
    char *bos, *eos;
    size_t bos_len, eos_len;
};

extern const vly_chat_format vly_chat_formats[];
extern const size_t vly_chat_n_formats;

/* Fills t->format and t->skeleton from Jinja source. VLY_E_UNSUPPORTED (says what it is that is not
 * known), VLY_E_HOST_MEMORY. */
int vly_chat_recognise(vly_chat_template *t, vly_bytes source, vly_error *err);

/* Appends the skeleton of Jinja source: outside of tags the text that rendering would give out as
 * it is (blocks trimmed as transformers has it), each stretch between CHAT_RAW bytes; of tags, all
 * but comments, white space and the signs of white-space control; string literals unescaped and
 * between CHAT_QUOTE bytes; x.role and x.content as x['role'] and x['content'], .strip() as |trim.
 * VLY_E_UNSUPPORTED (a tag or a string that does not end), VLY_E_HOST_MEMORY. */
int vly_chat_skeleton(vly_bytes source, vly_text *out, vly_error *err);
#define CHAT_QUOTE "\x01"
#define CHAT_RAW   "\x02"

#endif
