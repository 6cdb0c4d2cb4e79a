/* What 'volley models' tells of a model, and how it looks. */
#ifndef VLY_CLI_MODEL_TABLE_H
#define VLY_CLI_MODEL_TABLE_H

#include "spec/fit.h"
#include "store/store.h"

#include <sys/types.h>

typedef enum { VLY_DRAFT_GOOD, VLY_DRAFT_FAIR, VLY_DRAFT_POOR, VLY_DRAFT_UNFIT } vly_draft_verdict;

typedef struct {
    const vly_store_entry *entry;
    const vly_arch *described; /* an architecture beside the known ones, or NULL */
    vly_error problem;         /* why Volley does not run it; code 0: it does */
    bool readable;             /* the rest is known */
    char arch[32], tokenizer[16];
    uint64_t n_weights, n_bytes; /* of its tensors; of its files */
    const vly_format *format;    /* that most of its bytes have; NULL: it has no tensors */
    uint64_t n_vocab;
    dev_t device; /* of its (first) file */
    ino_t inode;
    /* With --for: */
    bool has_fit;
    vly_draft_fit fit;
    vly_draft_verdict verdict;
    char why[1024];
} vly_cli_model;

/* Reads what the file tells; what goes wrong is the model's `problem`. `arch` is an architecture
 * beside the known ones, or NULL; it must outlive the model. */
void vly_cli_model_read(const vly_store_entry *entry, const vly_arch *arch, vly_cli_model *out);

/* The model that drafts are wanted for. */
typedef struct {
    char *name; /* as it was given */
    uint64_t n_weights;
    vly_gguf *gguf;
    vly_tokenizer *tokenizer;
    vly_model_config config;
    dev_t device;
    ino_t inode;
} vly_cli_target;

/* Errors: those of vly_store_open, vly_model_check and vly_tokenizer_create. To be closed in any
 * case. */
int vly_cli_target_open(const char *name, const vly_arch *arch, vly_cli_target *out,
                        vly_error *err);
void vly_cli_target_close(vly_cli_target *target);

/* vly_draft_fit_measure over the sample `text` [len], to model->fit. */
int vly_cli_model_fit(vly_cli_model *model, const vly_cli_target *target, const char *text,
                      size_t len, vly_error *err);

/* Prints `n` models to stdout, in at most 100 columns where names allow; `target` may be NULL. */
void vly_cli_models_print(const vly_cli_model *models, size_t n, const vly_cli_target *target);
int vly_cli_models_print_json(const vly_cli_model *models, size_t n, const vly_cli_target *target,
                              vly_error *err);

#endif
