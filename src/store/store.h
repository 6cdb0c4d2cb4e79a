/* Models by name: where they lie, and what they bring besides weights. Names are looked for in
 *
 *   the folder of $VOLLEY_MODELS, and the shipped models' folder: NAME.gguf, also in folders within
 *   Ollama's store: $OLLAMA_MODELS, ~/.ollama/models, the system service's folder
 *
 * in this order. What exists as a path is always a path. Nothing is ever written. */
#ifndef VLY_STORE_STORE_H
#define VLY_STORE_STORE_H

#include "gguf/gguf.h"
#include "store/params.h"

typedef struct {
    char *path;          /* of the GGUF file, or what else vly_gguf_open takes */
    char *chat_template; /* in Go's template language; NULL: none */
    char *system;        /* a system message; NULL: none */
    vly_store_params params;
} vly_store_model;

/* Finds the model `name`, a path or a name; names in another case too, where only one is meant.
 * Errors: VLY_E_INVALID (empty), VLY_E_NOT_FOUND (names near ones, or says where
 * was looked), VLY_E_FORMAT (a broken manifest; a file of another size than it says),
 * VLY_E_UNSUPPORTED (an adapter), VLY_E_IO, VLY_E_HOST_MEMORY. *out is to be deinitialised after
 * success. */
int vly_store_find(const char *name, vly_store_model *out, vly_error *err);
void vly_store_model_deinit(vly_store_model *model);

/* vly_store_find and vly_gguf_open: the file alone. */
int vly_store_open(const char *name, vly_gguf **out, vly_error *err);

/* The paths of the shipped pair, to be freed by the caller. VLY_E_NOT_FOUND names the folders. */
int vly_store_find_shipped(char **target, char **draft, vly_error *err);

/* The folder that `file` ships in, to be freed by the caller: where it is called `folder` once
 * installed, and `in_tree` beside a build. NULL: there is none, or no memory. */
char *vly_store_find_folder(const char *folder, const char *in_tree, const char *file);

typedef struct {
    char *name; /* that vly_store_find takes */
    char *path; /* NULL: `problem` tells why it is not known */
    vly_error problem;
    const char *source; /* "VOLLEY_MODELS", "shipped" or "ollama" */
} vly_store_entry;

typedef struct {
    vly_store_entry *entries;
    size_t n, cap;
    struct vly_store_walk *walk; /* while the list is made */
} vly_store_list;

/* All models that names lead to, in the order in which they are looked for, by name within a place;
 * at most VLY_MAX_LISTED. Folders that are not there or cannot be read are passed over. 0 or
 * VLY_E_HOST_MEMORY; *out is to be deinitialised in any case. */
#define VLY_MAX_LISTED 10000
int vly_store_list_all(vly_store_list *out, vly_error *err);
void vly_store_list_deinit(vly_store_list *list);

#endif
