/* const.h: the kernel's constants by group, for flags by name and as fields of nsbox.sys. */
#ifndef NSB_CONST_H
#define NSB_CONST_H

#include "raw.h"

struct nsb_const {
    const char *name; /* in capitals, without the group's prefix */
    long value;
};

struct nsb_group {
    const char *name;   /* as in signatures: F(NAME) */
    const char *prefix; /* as in C: "MS_" */
    const struct nsb_const *at;
    unsigned n;
};

extern const struct nsb_group nsb_groups[] NSB_HIDDEN;
extern const unsigned nsb_ngroups NSB_HIDDEN;

#endif
