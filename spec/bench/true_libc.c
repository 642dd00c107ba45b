/* true_libc.c: a program that ends at once, with a static libc: what most small programs cost. */
int main(void) { return 0; }
