/* The interface of drafting methods. A method proposes the next tokens of one sequence; the target
 * verifies them, and whatever a method proposes, the text stays the target's. One file a method; see
 * docs/speculation.md for how to add one.
 *
 * A proposal is either known on the host (then the method writes target ids into the verify step) or
 * comes to be on the device (then the method adds the commands that write them there). */
#ifndef VLY_DRAFT_H
#define VLY_DRAFT_H

#include "base/vec.h"
#include "model/model.h"
#include "text/tokenizer.h"

/* Commands of one submission, in order. */
#define VLY_MAX_SUBMISSION 64
typedef struct {
    vly_gpu_commands *commands[VLY_MAX_SUBMISSION];
    uint32_t n;
} vly_submission;

/* What a method proposes after. */
typedef struct {
    uint32_t target_pos;                      /* position that the first proposed token will have */
    const struct vly_step_sampling *sampling; /* the target's, without the noise shift */
    struct vly_step *verify;                  /* token[1 + j].id is for proposal j */
} vly_draft_input;

typedef struct vly_draft vly_draft;

typedef struct {
    const char *name;

    /* The text so far has grown by `n` bytes, the bytes of whole target tokens, none of them proposed by
     * this method. VLY_E_HOST_MEMORY. */
    int (*extend)(vly_draft *draft, const char *bytes, size_t n, vly_error *err);

    /* Reads in what is known of the text, a chunk at a time, before the first proposal: adds commands,
     * or none when nothing is left to read. `read_done` follows when they are complete. */
    int (*read)(vly_draft *draft, vly_submission *list, vly_error *err);
    void (*read_done)(vly_draft *draft);

    /* Proposes at most k > 0 tokens; *n gets how many (0: none this time). */
    int (*propose)(vly_draft *draft, const vly_draft_input *in, uint32_t k, vly_submission *list,
                   uint32_t *n, vly_error *err);

    /* After the submission: the n > 0 proposed tokens as target ids. Static until the next proposal. */
    const uint32_t *(*proposed)(vly_draft *draft);

    /* The target accepted the first `accepted` of the n; not called where n was 0. */
    int (*settle)(vly_draft *draft, uint32_t accepted, vly_error *err);

    void (*destroy)(vly_draft *draft);
} vly_draft_method;

struct vly_draft {
    const vly_draft_method *method;
};

/* The method `model`: a small model with its own tokenizer and cache, whose head and picks were linked
 * to the target by vly_model_link_draft. All stay the caller's. */
int vly_draft_model_create(vly_model *model, const vly_tokenizer *tokenizer, vly_draft **out,
                           vly_error *err);

#endif
