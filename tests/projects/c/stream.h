/* Deflates or inflates one stream into another; 0 for success. */
#include <stdio.h>

int stream_pack(FILE *from, FILE *to);
int stream_unpack(FILE *from, FILE *to);
