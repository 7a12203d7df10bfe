/*-------------------------------------------------------------------------
 *
 * ask.c
 *	  Asking amoCRM for a path: tries, waits, and what an answer means for the pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "amocrm.h"
#include "sync_int.h"

/*
 * Waits before another try: as long as the answer says, else doubling.
 */
void
pass_pause(int attempt, int retry_after)
{
	double		seconds = retry_after >= 0 ? retry_after : sync_jitter() * 0.5 * (1 << (attempt - 1));

	http_pause((long) (Max(seconds, 0.2) * 1000));
}

/*
 * An answer that no other try will change.
 */
static void
note_refusal(Pass *pass, const AmoAnswer *answer)
{
	switch (answer->verdict)
	{
		case AMO_NOT_PAID:
			pass->state = "not_paid";
			pass->retry_seconds = RETRY_NOT_PAID;
			pass_trouble(pass, TROUBLE_STOP, "%s", answer->reason);
			break;
		case AMO_FORBIDDEN:
			pass->retry_seconds = RETRY_FORBIDDEN;
			pass->state = answer->is_json ? "forbidden" : "blocked";
			pass_trouble(pass, answer->is_json ? TROUBLE_REFUSED : TROUBLE_STOP, "%s", answer->reason);
			break;
		default:
			pass_trouble(pass, TROUBLE_REFUSED, "%s", answer->reason);
			break;
	}
}

/*
 * An answer that another try may change: whether this pass makes one.
 */
static bool
is_worth_another_try(Pass *pass, const AmoAnswer *answer, bool may_shrink, int attempt)
{
	bool		again = attempt < MAX_TRIES;

	switch (answer->verdict)
	{
		case AMO_UNREADABLE:
			pass_trouble(pass, TROUBLE_LATER, "%s", answer->reason);
			return again;
		case AMO_UNREACHED:
			pass_trouble(pass, TROUBLE_STOP, "no answer: %s", answer->reason);
			return again && !answer->unsafe;
		case AMO_TOO_FAST:
			pass_trouble(pass, TROUBLE_STOP, "%s", answer->reason);
			break;
		default:
			pass_trouble(pass, may_shrink ? TROUBLE_SMALLER : TROUBLE_LATER, "%s", answer->reason);
			break;
	}
	if (answer->retry_after > MAX_PAUSE_SECONDS)
	{
		pass->retry_seconds = answer->retry_after;
		pass->trouble = TROUBLE_STOP;
		return false;
	}
	if (pass->trouble == TROUBLE_SMALLER)
	{
		/* the caller asks for less, after a while */
		pass_pause(attempt, answer->retry_after);
		return false;
	}
	return again;
}

/*
 * Asks for a path until there is a page or nothing to read, which are both
 * true.  False: pass->trouble and reason say why.  may_shrink: the caller can
 * ask for a smaller page instead.
 */
bool
pass_ask(Pass *pass, const char *path, bool may_shrink, AmoAnswer *answer)
{
	for (int attempt = 1;; attempt++)
	{
		amo_get(pass->api, pass->tokens.access, path, answer);
		pass->last_status = answer->status;
		switch (answer->verdict)
		{
			case AMO_EMPTY:

				/*
				 * 204 says that there is nothing.  200 with no body says so
				 * only when it says it again: more often an answer got lost.
				 */
				if (answer->status == 200 && attempt < MAX_TRIES)
					break;
				pass->trouble = TROUBLE_NONE;
				return true;
			case AMO_PAGE:
				pass->trouble = TROUBLE_NONE;
				return true;
			case AMO_UNAUTHORIZED:
				/* A second 401 with a new token is final: see tokens_renew(). */
				if (!tokens_renew(pass))
					return false;
				continue;
			case AMO_NOT_PAID:
			case AMO_FORBIDDEN:
			case AMO_REFUSED:
				note_refusal(pass, answer);
				return false;
			case AMO_TOO_FAST:
			case AMO_OVERLOADED:
			case AMO_UNREADABLE:
			case AMO_UNREACHED:
				if (!is_worth_another_try(pass, answer, may_shrink, attempt))
					return false;
				break;
		}
		pass_pause(attempt, answer->retry_after);
	}
}
