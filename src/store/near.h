/* Names like another one, for messages about a name that is not there. */
#ifndef VLY_STORE_NEAR_H
#define VLY_STORE_NEAR_H

#include "store/store.h"

/* How many letters must be put in, left out or changed to make `b` of `a`, upper and lower case
 * being the same (Levenshtein distance); SIZE_MAX for names of more than VLY_MAX_NEAR_BYTES. */
#define VLY_MAX_NEAR_BYTES 512
size_t vly_name_distance(const char *a, const char *b);

/* The up to `n` entries of `list` that are nearest to `name`, nearest first, to near [n]; returns
 * how many there are. With and without its tag and what stands before the model counts, a part of a
 * name is near it, and what has too little in common is left out. */
size_t vly_store_nearest(const vly_store_list *list, const char *name, size_t n,
                         const vly_store_entry **near);

#endif
