#include <string.h>

#include "stream.h"

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "-d") == 0)
		return stream_unpack(stdin, stdout);
	return stream_pack(stdin, stdout);
}
