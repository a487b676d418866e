/*
 * fleet_orders.c - what was ordered, and where the rules come from, as the segment says.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tools/fleet.h"

void fleet_print_orders(const struct fleet *fleet)
{
	if (fleet->orders == 0 && fleet->orders_version == 0)
		return;
	printf("orders   %" PRIu64 " given", fleet->orders);
	if (fleet->orders_version != 0)
		printf(", the fleet's of version %" PRIu64 " on %" PRIu64 " of %" PRIu64
		       " live hosts",
		       fleet->orders_version, fleet->orders_hosts, fleet->orders_live);
	puts(" (rlctl orders)");
}

void fleet_print_pushed(const struct fleet *fleet, const char *before, const char *after)
{
	if (fleet->rules_version == 0 && fleet->rules_wanted == 0)
		return;
	fputs(before, stdout);
	if (fleet->rules_version == 0)
		fputs("the file's", stdout);
	else
		printf("pushed version %" PRIu64, fleet->rules_version);
	if (fleet->rules_version != fleet->rules_wanted)
		printf(", NOT version %" PRIu64
		       ", which this host has not taken: its agent's log says why",
		       fleet->rules_wanted);
	printf(" (version %" PRIu64 " on %" PRIu64 " of %" PRIu64 " live hosts)%s",
	       fleet->rules_wanted, fleet->rules_hosts, fleet->orders_live, after);
}

void fleet_json_orders(const struct fleet *fleet, json_t *all)
{
	json_object_set_new(all, "orders",
			    json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)fleet->orders,
				      "version", (json_int_t)fleet->orders_version, "have",
				      (json_int_t)fleet->orders_hosts, "hosts",
				      (json_int_t)fleet->orders_live));
	json_object_set_new(all, "rules_from",
			    json_pack("{s:s, s:I, s:I, s:I, s:I}", "from",
				      fleet->rules_version != 0 ? "push" : "file", "version",
				      (json_int_t)fleet->rules_version, "wanted",
				      (json_int_t)fleet->rules_wanted, "have",
				      (json_int_t)fleet->rules_hosts, "hosts",
				      (json_int_t)fleet->orders_live));
}
