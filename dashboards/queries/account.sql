select * from regcrm.account
