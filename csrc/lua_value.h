/* lua_value.h: the marshaller's inside, for lua_value.c, lua_plan.c and calls with their own arguments. */
#ifndef NSB_LUA_VALUE_H
#define NSB_LUA_VALUE_H

#include "lua_nsbox.h"

enum { NSBL_MAXNAME = 24 };

struct nsbL_field {
    char name[NSBL_MAXNAME];
    char type;
    char optional;
    const char *group; /* for F */
};

struct nsbL_sig {
    int n;
    int subject; /* the argument that messages name, or -1 */
    struct nsbL_field field[NSB_MAXARGS];
};

/* A word, or why the value was refused (static text). */
struct nsbL_value {
    long word;
    const char *bad;
};

/* Where strings and lists live: with a plan, in a start's arena, or (both NULL) on the Lua stack, for use at
 * once. */
struct nsbL_memory {
    lua_State *L;
    struct nsbL_program *program;
    struct nsb_launch *arena;
};

/* Reads all signatures and makes the name tables of the registry. Once per Lua state. */
NSB_HIDDEN void nsbL_sigs(lua_State *L);
NSB_HIDDEN const struct nsbL_sig *nsbL_sig(unsigned row);
NSB_HIDDEN struct nsbL_value nsbL_value(struct nsbL_memory *m, int idx, const struct nsbL_field *f);
NSB_HIDDEN void *nsbL_take(struct nsbL_memory *m, size_t n); /* raises when full */
/* A NULL-terminated vector of the strings in a list. Raises on anything else. */
NSB_HIDDEN char **nsbL_strings(struct nsbL_memory *m, int list);

#endif
