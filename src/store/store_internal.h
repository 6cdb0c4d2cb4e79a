/* Shared by the places that models are found in. */
#ifndef VLY_STORE_INTERNAL_H
#define VLY_STORE_INTERNAL_H

#include "store/store.h"

#include <sys/types.h>

/* A path or text made by printf's rules, to be freed; NULL without memory. */
char *vly_store_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Adds an entry, unless its name is there already, which is then what the name leads to. Takes over
 * `name` and `path`, either of which may be NULL for lack of memory; copies `problem` where that is
 * not NULL. VLY_E_HOST_MEMORY. */
int vly_store_list_add(vly_store_list *list, const char *source, char *name, char *path,
                       const vly_error *problem, vly_error *err);

/* What a walk through folders has seen. */
struct vly_store_walk {
    size_t n_visited; /* files and folders */
    struct {
        dev_t device;
        ino_t inode;
    } open[8]; /* the folders that the walk is within */
    size_t n_open;
};

/* Calls `fn` for each name in the folder `path` that does not begin with a '.', in order of names,
 * until it returns something else than 0, and returns that; 0 for a folder that cannot be read.
 * Links in circles are not followed, nor folders within more than 8, nor more than VLY_MAX_VISITED
 * names for one list. */
#define VLY_MAX_VISITED 100000
typedef int (*vly_store_visit)(void *arg, const char *path, const char *name);
int vly_store_each(vly_store_list *list, const char *path, vly_store_visit fn, void *arg);

/* Each place: the model `name` to *out. 0; VLY_E_NOT_FOUND without a message where it is not there;
 * or why it cannot be used. */
int vly_folder_find(const char *name, vly_store_model *out, vly_error *err);
int vly_ollama_find(const char *name, vly_store_model *out, vly_error *err);

/* Each place: appends what is there. */
int vly_folder_list(vly_store_list *list, vly_error *err);
int vly_ollama_list(vly_store_list *list, vly_error *err);

/* Where was looked, for messages: "A, B and C", to be freed; NULL without memory. */
char *vly_ollama_places(void);

#endif
