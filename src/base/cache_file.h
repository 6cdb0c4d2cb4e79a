/* Files that spare a program work and may be lost at any time: below $XDG_CACHE_HOME/volley, or
 * ~/.cache/volley. Reading one that is not whole or not ours is as if there was none. */
#ifndef VLY_BASE_CACHE_FILE_H
#define VLY_BASE_CACHE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define VLY_CACHE_PATH_BYTES 4096

/* The path of the file `name`; empty where the environment names no place. */
void vly_cache_path(const char *name, char path[VLY_CACHE_PATH_BYTES]);

/* What vly_cache_write wrote with the same `magic`: n_bytes of it, at most `max_bytes`, malloc'd.
 * NULL where there is no such file (or the path is empty), and where it is damaged. */
void *vly_cache_read(const char *path, const char magic[8], size_t max_bytes, size_t *n_bytes);

/* Makes folders as needed. Written aside and renamed, so that another process sees the old file or
 * the whole new one. False, with errno set, where it could not be written. */
bool vly_cache_write(const char *path, const char magic[8], const void *data, size_t n_bytes);

#endif
