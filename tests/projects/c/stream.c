#include "stream.h"

#include <string.h>
#include <zlib.h>

enum { CHUNK = 65536 };

int stream_pack(FILE *from, FILE *to)
{
	unsigned char in[CHUNK], out[CHUNK];
	z_stream z = { 0 };
	int flush = Z_NO_FLUSH;

	if (deflateInit(&z, Z_BEST_SPEED) != Z_OK)
		return 1;
	while (flush != Z_FINISH) {
		z.avail_in = fread(in, 1, CHUNK, from);
		z.next_in = in;
		flush = feof(from) ? Z_FINISH : Z_NO_FLUSH;
		do {
			z.avail_out = CHUNK;
			z.next_out = out;
			deflate(&z, flush);
			fwrite(out, 1, CHUNK - z.avail_out, to);
		} while (z.avail_out == 0);
	}
	deflateEnd(&z);
	return ferror(from) || fflush(to);
}

int stream_unpack(FILE *from, FILE *to)
{
	unsigned char in[CHUNK], out[CHUNK];
	z_stream z = { 0 };
	int code = Z_OK;

	if (inflateInit(&z) != Z_OK)
		return 1;
	while (code != Z_STREAM_END && (z.avail_in = fread(in, 1, CHUNK, from)) > 0) {
		z.next_in = in;
		do {
			z.avail_out = CHUNK;
			z.next_out = out;
			code = inflate(&z, Z_NO_FLUSH);
			if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
				return 1;
			fwrite(out, 1, CHUNK - z.avail_out, to);
		} while (z.avail_out == 0);
	}
	inflateEnd(&z);
	return code != Z_STREAM_END || fflush(to);
}
