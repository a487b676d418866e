/*
 * verify_words.c - each finding in words: what it is, what it does to answers, what to do.
 */
#include "tools/verify.h"

#define WRITER "look for a program that writes into the segment"
#define SWEEPS "the agent empties it within 10 s (start one), its key starts anew"
#define RELOAD "reload the agent (SIGHUP): it writes the rules anew"
#define RENEW  "stop its users, remove the file, start rl-agent"
#define AGENT  "start rl-agent: it takes it back"

const struct verify_words *verify_words(enum rl_fault fault)
{
	static const struct verify_words words[RL_FAULT_COUNT] = {
		[RL_FAULT_HEADER] = {"a word of the header that nobody changes has changed",
				     "new processes cannot attach, or keep time wrongly", RENEW},
		[RL_FAULT_LIVE] = {"a moment of the agent's that is not its clock's",
				   "new processes may refuse it; fixed windows may begin wrongly",
				   "start rl-agent again if it stays: " WRITER},
		[RL_FAULT_JOURNAL] = {"the journal names no slot that can be re-based",
				      "none: a new agent drops it", WRITER},
		[RL_FAULT_RULE_TERMS] = {"a rule's limit, groups, window or flags are no rule's",
					 "its checks answer that there is no such rule, or by "
					 "wrong terms",
					 RELOAD},
		[RL_FAULT_RULE_NAME] = {"a rule's name does not belong to its id",
					"it cannot be found by its name", RELOAD},
		[RL_FAULT_RULE_TWICE] = {"another rule has the same id",
					 "its checks may go by the other's terms", RELOAD},
		[RL_FAULT_RULE_LEFT] = {"words where no rule is", "none", RELOAD},
		[RL_FAULT_RULE_OLD] = {"a damaged or half-written rule in the bank not in force",
				       "none: the next reload writes it anew", RELOAD},
		[RL_FAULT_FLEET] =
			{"a word about this host in its fleet that no agent writes",
			 "shared rules may take the host for stale, or keep wrong shares",
			 "restart the agent: it writes them anew"},
		[RL_FAULT_PART] =
			{"a word of a partition's calls that no agent writes",
			 "credit may live too long, or not be asked for",
			 "restart the agent; if it stays, stop its users, remove the file"},
		[RL_FAULT_MEMBER] = {"a statistics line belongs to a process that is not there",
				     "none; when all lines are taken checks are a little slower",
				     AGENT},
		[RL_FAULT_DIRTY] = {"a mark for a slot that does not exist", "none", WRITER},
		[RL_FAULT_SLOT_KIND] = {"it is closed for no reason there is",
					"its key is answered busy", SWEEPS},
		[RL_FAULT_SLOT_COUNT] = {"a count that no slot comes to",
					 "its key is answered wrongly or busy", SWEEPS},
		[RL_FAULT_SLOT_CLOSED] = {"it is closed for a re-base that the journal knows "
					  "nothing of",
					  "its key is answered busy", SWEEPS},
		[RL_FAULT_SLOT_REBASE] = {"an agent died while it re-based it",
					  "its key is answered busy",
					  "start rl-agent: it finishes it at once"},
		[RL_FAULT_SLOT_CLAIM] = {"a process died or was stopped while it made it",
					 "none, but that the slot is taken", AGENT},
		[RL_FAULT_SLOT_TAKEN] = {"an agent died while it freed it",
					 "its key is answered busy", AGENT},
		[RL_FAULT_SLOT_LEFT] = {"it is free, with a tag or words left in it",
					"no key can have it", AGENT},
		[RL_FAULT_SLOT_ID] = {"it is open and has no identity",
				      "none, but that the slot is taken", WRITER},
		[RL_FAULT_SLOT_TAG] =
			{"its tag is not that of its identity",
			 "its key may be given another slot, with a budget of its own", WRITER},
		[RL_FAULT_SLOT_BUCKET] = {"it lies where its key is not looked for",
					  "its key has another slot, with a budget of its own",
					  WRITER},
		[RL_FAULT_SLOT_TWICE] = {"another open slot has the same identity",
					 "the key may have up to its limit twice, for a window",
					 WRITER},
		[RL_FAULT_SLOT_SHAPE] = {"its algorithm, group size or window is no rule's",
					 "its key is answered wrongly or busy", SWEEPS},
		[RL_FAULT_SLOT_STATE] = {"its state is of another life or algorithm",
					 "its key is answered busy", SWEEPS},
		[RL_FAULT_SLOT_STAMP] = {"a stamp lies ahead of the clock",
					 "its key is refused until a check sets it back", WRITER},
		[RL_FAULT_SLOT_PART] = {"it is not in the partition of its key",
					"its credit is judged by another partition's calls",
					WRITER},
		[RL_FAULT_SIDE_ACKED] = {"more is acknowledged than was ever admitted",
					 "units of a shared rule may never be reported", WRITER},
		[RL_FAULT_SIDE_INFL] = {"what a call under way says of it is not what any says",
					"units of a shared rule may be reported wrongly", WRITER},
		[RL_FAULT_TEXT] = {"its key is not there", "a shared rule's units are not reported",
				   WRITER},
		[RL_FAULT_TEXT_KEY] = {"the key beside it is another one's",
				       "a shared rule's units are reported for another key",
				       WRITER},
		[RL_FAULT_HOLDER] = {"a process that holds requests in flight is none",
				     "none, but that its number is taken", AGENT},
		[RL_FAULT_HOLD_OWNER] = {"it is of a slot or a process that is none",
					 "the agent frees it: its key may have more in flight than "
					 "its limit",
					 WRITER},
		[RL_FAULT_HOLD_LINK] = {"the next one of its key is another key's",
					"both keys are refused too early", WRITER},
		[RL_FAULT_HOLD_CELL] = {"it says that nobody holds some, or somebody nothing",
					"its key may be refused too early", WRITER},
		[RL_FAULT_HOLD_LEFT] = {"what a process held that is gone is not given back",
					"its key may be refused too early", WRITER},
	};

	return &words[fault];
}
