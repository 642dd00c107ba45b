/* hog.c: a program that takes memory until it is killed, for specs.  hog MEBIBYTES */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 1024;
    for (long i = 0; i < n; i++) {
        void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return 3;
        memset(p, (int)i, 1 << 20);
    }
    return write(1, "full\n", 5) == 5 ? 0 : 4;
}
