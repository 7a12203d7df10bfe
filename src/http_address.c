/*-------------------------------------------------------------------------
 *
 * http_address.c
 *	  Which addresses may be asked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include <curl/curl.h>

#include "http.h"
#include "regcrm.h"

static bool
http_is_loopback(const char *host)
{
	struct in_addr four;
	struct in6_addr six;
	char		bare[64];
	size_t		length = strlen(host);

	if (pg_strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == 127;
	if (length > 2 && length < sizeof(bare) && host[0] == '[' && host[length - 1] == ']')
	{
		memcpy(bare, host + 1, length - 2);
		bare[length - 2] = '\0';
		if (inet_pton(AF_INET6, bare, &six) == 1)
			return IN6_IS_ADDR_LOOPBACK(&six);
	}
	return false;
}

const char *
http_check_base(const char *url, char **origin, char **host)
{
	CURLU	   *parts;
	char	   *found[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
	static const CURLUPart which[6] = {
		CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT, CURLUPART_PATH,
		CURLUPART_USER, CURLUPART_QUERY
	};
	const char *wrong = NULL;

	*origin = *host = NULL;

	/*
	 * Nothing between curl_url() and curl_url_cleanup() may raise an error:
	 * the strings are libcurl's.  The ones that are kept are copied last.
	 */
	parts = curl_url();
	if (parts == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK)
		wrong = "It must look like \"https://example.amocrm.ru\".";
	else
	{
		for (int i = 0; i < lengthof(which); i++)
			(void) curl_url_get(parts, which[i], &found[i], 0);

		if (found[0] == NULL || found[1] == NULL || found[1][0] == '\0')
			wrong = "It must look like \"https://example.amocrm.ru\".";
		else if (found[4] != NULL)
			wrong = "It must not hold a user name or a password.";
		else if (found[5] != NULL ||
				 (found[3] != NULL && strcmp(found[3], "/") != 0 && found[3][0] != '\0'))
			wrong = "It must end after the host: no path and no parameters.";
		else if (strcmp(found[0], "https") == 0)
			 /* good */ ;
		else if (strcmp(found[0], "http") != 0)
			wrong = "Its protocol must be https.";
		else if (!regcrm_allow_http)
			wrong = "Its protocol must be https; plain http is for tests, with regcrm.allow_http on.";
		else if (!http_is_loopback(found[1]))
			wrong = "Plain http may only go to this machine itself.";
	}

	if (wrong == NULL)
	{
		char		copy[3][256];
		bool		fits = true;

		for (int i = 0; i < 3; i++)
			fits &= strlcpy(copy[i], found[i] ? found[i] : "", sizeof(copy[i])) < sizeof(copy[i]);
		for (int i = 0; i < lengthof(which); i++)
			curl_free(found[i]);
		curl_url_cleanup(parts);
		if (!fits)
			return "It is too long.";
		*origin = psprintf("%s://%s%s%s", copy[0], copy[1],
						   copy[2][0] ? ":" : "", copy[2]);
		*host = pstrdup(copy[1]);
		return NULL;
	}

	for (int i = 0; i < lengthof(which); i++)
		curl_free(found[i]);
	curl_url_cleanup(parts);
	return wrong;
}
