#include "agent/redis/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/redis/secret.h"
#include "agent/redis/stamp.h"

#define FILES 3

struct redis_tls {
	struct redis_trust trust;
	SSL_CTX *context; /* by the files as stamp[] says; NULL: to be made */
	struct redis_stamp stamp[FILES];
	char name[256];  /* the server's, as we look for it */
	char found[128]; /* what the certificate that is refused says instead */
};

struct reason {
	char *text;
	size_t size;
};

static bool blame(const struct reason *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool blame(const struct reason *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, why->size, format, args);
	va_end(args);
	return false;
}

/* What OpenSSL says of its first error, the cause, which is forgotten with all the others. */
static const char *first_error(void)
{
	unsigned long code = ERR_peek_error();
	const char *text = ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code))
							    : ERR_reason_error_string(code);

	ERR_clear_error();
	return text != NULL ? text : "no PEM, it seems";
}

static const char *file_of(const struct redis_trust *trust, int i)
{
	return i == 0 ? trust->ca_file : i == 1 ? trust->cert_file : trust->key_file;
}

/* Have the files changed since they were read? They count as read from now on. */
static bool look_at_files(struct redis_tls *tls)
{
	bool changed = false;

	for (int i = 0; i < FILES; i++)
		changed = redis_stamp_take(file_of(&tls->trust, i), &tls->stamp[i]) || changed;
	return changed;
}

/* The names of the certificate that is refused, for a message: nobody has vouched for them. */
static void note_names(struct redis_tls *tls, X509 *certificate)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	size_t used = 0;

	snprintf(tls->found, sizeof(tls->found), "no name");
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && used < sizeof(tls->found); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			used += (size_t)snprintf(
				tls->found + used, sizeof(tls->found) - used, "%s%.*s",
				used == 0 ? "" : ", ", ASN1_STRING_length(name->d.dNSName),
				(const char *)ASN1_STRING_get0_data(name->d.dNSName));
	}
	for (char *c = tls->found; *c != '\0'; c++)
		if (*c == '"' || *c < ' ' || *c > '~')
			*c = '?';
	GENERAL_NAMES_free(names);
}

static void note_time(struct redis_tls *tls, const ASN1_TIME *time)
{
	BIO *out = BIO_new(BIO_s_mem());

	if (out == NULL || ASN1_TIME_print(out, time) != 1 ||
	    BIO_gets(out, tls->found, sizeof(tls->found)) <= 0)
		snprintf(tls->found, sizeof(tls->found), "an unreadable time");
	BIO_free(out);
}

/* OpenSSL calls it for each certificate of the chain; its verdict stays. */
static int on_verify(int good, X509_STORE_CTX *store)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	X509 *certificate = X509_STORE_CTX_get_current_cert(store);
	struct redis_tls *tls = SSL_get_app_data(ssl);

	if (good || certificate == NULL)
		return good;
	switch (X509_STORE_CTX_get_error(store)) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		note_names(tls, certificate);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		note_time(tls, X509_get0_notAfter(certificate));
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		note_time(tls, X509_get0_notBefore(certificate));
		break;
	default:
		break;
	}
	return good;
}

/* A key with a passphrase would ask for it on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer, (void)size, (void)writing, (void)arg;
	return -1;
}

static bool use_authorities(SSL_CTX *context, const struct redis_trust *trust,
			    const struct reason *why)
{
	if (trust->ca_file[0] == '\0')
		return SSL_CTX_set_default_verify_paths(context) == 1 ||
		       blame(why, "this system's CA store cannot be read: %s", first_error());
	if (SSL_CTX_load_verify_locations(context, trust->ca_file, NULL) == 1)
		return true;
	return blame(why,
		     "the CA cannot be read from %s: %s: correct the file or redis.tls.ca_file",
		     trust->ca_file, first_error());
}

static bool use_certificate(SSL_CTX *context, const struct redis_trust *trust,
			    const struct reason *why)
{
	int fd;

	if (trust->cert_file[0] == '\0')
		return true;
	if (SSL_CTX_use_certificate_chain_file(context, trust->cert_file) != 1)
		return blame(why,
			     "the client certificate cannot be read from %s: %s: correct the file "
			     "or redis.tls.cert_file",
			     trust->cert_file, first_error());
	fd = redis_secret_open(trust->key_file, "the private key", "redis.tls.key_file", why->text,
			       why->size);
	if (fd < 0)
		return false;
	close(fd);
	if (SSL_CTX_use_PrivateKey_file(context, trust->key_file, SSL_FILETYPE_PEM) == 1)
		return true;
	return blame(why, "the private key in %s does not fit %s: %s", trust->key_file,
		     trust->cert_file, first_error());
}

static SSL_CTX *context_new(const struct redis_trust *trust, const struct reason *why)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
		blame(why, "no memory for TLS");
		SSL_CTX_free(context);
		return NULL;
	}
	/* An answer says how long it is: an end without TLS's own goodbye takes nothing away. */
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_default_passwd_cb(context, no_passphrase);
	SSL_CTX_set_verify(context, trust->anyone ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, on_verify);
	if ((trust->anyone || use_authorities(context, trust, why)) &&
	    use_certificate(context, trust, why))
		return context;
	SSL_CTX_free(context);
	return NULL;
}

bool redis_tls_ready(struct redis_tls *tls, char *why, size_t why_size)
{
	if (!look_at_files(tls) && tls->context != NULL)
		return true;
	SSL_CTX_free(tls->context);
	ERR_clear_error();
	tls->context = context_new(&tls->trust, &(struct reason){why, why_size});
	return tls->context != NULL;
}

/* The certificate must be for this name or address; a name is also told to the server (SNI). */
static bool expect_name(SSL *ssl, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	unsigned char bytes[sizeof(struct in6_addr)];

	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static SSL *session_new(struct redis_tls *tls, const char *host)
{
	const char *wanted = tls->trust.server_name;
	SSL *ssl = SSL_new(tls->context);

	snprintf(tls->name, sizeof(tls->name), "%s", wanted[0] != '\0' ? wanted : host);
	if (ssl != NULL && SSL_set_app_data(ssl, tls) == 1 && expect_name(ssl, tls->name))
		return ssl;
	SSL_free(ssl);
	return NULL;
}

struct bufferevent *redis_tls_stream(struct redis_tls *tls, struct event_base *base, int fd,
				     const char *host)
{
	SSL *ssl = session_new(tls, host);
	struct bufferevent *stream;

	if (ssl == NULL)
		return NULL;
	stream = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_CONNECTING,
						BEV_OPT_CLOSE_ON_FREE);
	if (stream == NULL)
		SSL_free(ssl);
	return stream;
}

/* The server's certificate is not accepted. */
static void explain_refusal(const struct redis_tls *tls, long verdict, const struct reason *why)
{
	const char *authorities = tls->trust.ca_file;

	switch (verdict) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		blame(why,
		      "the server's certificate is not for '%s' (it is for: %s): correct the url, "
		      "or set redis.tls.server_name",
		      tls->name, tls->found);
		break;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		blame(why,
		      "the server's certificate, or its CA's, has expired (%s): renew it, or set "
		      "this host's clock right",
		      tls->found);
		break;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		blame(why,
		      "the server's certificate, or its CA's, is not valid yet (before %s): is "
		      "this host's clock right?",
		      tls->found);
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		blame(why,
		      "the server's certificate is not signed by a CA of %s: set redis.tls.ca_file "
		      "to the CA that signed it",
		      authorities[0] != '\0' ? authorities : "this system");
		break;
	default:
		blame(why, "the server's certificate is not accepted: %s",
		      X509_verify_cert_error_string(verdict));
	}
}

/* The server does not take us for a client: it said so, or just closed. */
static void explain_ours(const struct redis_tls *tls, const struct reason *why)
{
	if (tls->trust.cert_file[0] == '\0')
		blame(why, "the server wants a client certificate, it seems: set "
			   "redis.tls.cert_file and key_file");
	else
		blame(why,
		      "the server refuses the client certificate in %s, it seems: is it valid, "
		      "and signed by a CA the server trusts?",
		      tls->trust.cert_file);
}

/* What either side found wrong, by OpenSSL's code; it names alerts of the server as well. */
static void explain_error(const struct redis_tls *tls, unsigned long code, const struct reason *why)
{
	const char *text = ERR_reason_error_string(code);

	switch (ERR_GET_REASON(code)) {
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_BAD_RECORD_TYPE:
		blame(why, "the server does not speak TLS: is this its tls-port? (redis:// is "
			   "without TLS)");
		break;
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
	case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
		explain_ours(tls, why);
		break;
	default:
		blame(why, "TLS failed: %s", text != NULL ? text : "an unknown error");
	}
}

bool redis_tls_explain(struct redis_tls *tls, struct bufferevent *stream, bool early, char *why,
		       size_t why_size)
{
	const struct reason reason = {why, why_size};
	unsigned long code = bufferevent_get_openssl_error(stream);
	long verdict = SSL_get_verify_result(bufferevent_openssl_get_ssl(stream));
	bool of_tls = ERR_GET_LIB(code) == ERR_LIB_SSL; /* else the socket's, or none */

	if (of_tls && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		explain_refusal(tls, verdict, &reason);
	else if (of_tls)
		explain_error(tls, code, &reason);
	else if (early) /* its alert may be lost when the socket is closed behind it */
		explain_ours(tls, &reason);
	return of_tls || early;
}

struct redis_tls *redis_tls_new(const struct redis_trust *trust)
{
	struct redis_tls *tls = calloc(1, sizeof(*tls));

	if (tls != NULL)
		tls->trust = *trust;
	return tls;
}

void redis_tls_free(struct redis_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->context);
	free(tls);
}
