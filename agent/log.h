/*
 * log.h - the agent's voice: one line an event on stderr, key=value, for people and journald.
 */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO };

/* "level=info event=started segment=/dev/shm/rl/default": format holds the rest of the line. */
void log_event(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
