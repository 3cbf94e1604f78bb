-- When the right to watch ends; NULL before the grant. An earlier version of this service grants without it: then it ends
-- after the period that the rule says, from the grant.
ALTER TABLE rentals ADD COLUMN expire_time BIGINT;
